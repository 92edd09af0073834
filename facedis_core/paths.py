"""Paths as users give them: what lies there, and which file each output is.

Standard library only, so that an output can be refused before anything heavy is imported.
"""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from facedis_core.errors import InputError, UsageError

_NUMBER = re.compile(r"([0-9]+)")
_PLACEHOLDER = re.compile(r"\{[^{}/]*\}")


# Those of pathlib raise where a folder may not be searched or a name is too long. Here there is
# then nothing, and whoever opens the path says why.


def is_folder(path: str | Path) -> bool:
    """Whether this is a folder that can be seen."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Whether this is a regular file that can be seen."""
    return os.path.isfile(path)  # noqa: PTH113


def exists(path: str | Path) -> bool:
    """Whether anything that can be seen lies here."""
    return os.path.exists(path)  # noqa: PTH110


def files_below(folder: str | Path, at_most: int = 1_000_000) -> list[str]:
    """Paths of all files in a folder and below it, relative and with `/`, sorted.

    Hidden files and folders are left out; links to folders are followed, but never in a circle.
    Raises InputError where a folder cannot be read, and beyond so many files.
    """
    found: list[str] = []
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        prefix, above = waiting.pop()
        place = os.path.join(folder, prefix)  # noqa: PTH118
        try:
            here = os.stat(place)  # noqa: PTH116
            with os.scandir(place) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except OSError as error:
            raise InputError(f"{place}: {error.strerror}; expected a folder of meshes") from error
        inside = above | {(here.st_dev, here.st_ino)}
        if len(inside) > len(above):  # else a link has led back to a folder around it
            found += [prefix + entry.name for entry in entries if is_file(entry.path)]
            waiting += [(f"{prefix}{e.name}/", inside) for e in entries if is_folder(e.path)]
        if len(found) > at_most or len(waiting) > at_most:
            raise InputError(
                f"{folder} holds more than {at_most} files; expected a folder of meshes and "
                "little else, give the one that they are in"
            )
    return sorted(found)


def natural_key(text: str) -> tuple[str | int, ...]:
    """Sorts `shape_2` before `shape_10`: numbers in a text by their value."""
    return tuple(int(part) if part.isdecimal() else part for part in _NUMBER.split(text))


def output_paths(pattern: str, names: Sequence[str], suffix: str = ".ply") -> list[Path]:
    """One path for every name.

    `out.ply` is for one name whatever it is; `dir/` and an existing folder get `<name><suffix>`;
    in `dir/{name}.obj` the name is put in, and `suffix` appended where the pattern has none.
    A `/` in a name makes a subfolder.
    Raises InputError on a name that is empty, absolute, climbs by `..` or has control characters,
    UsageError for another placeholder, and where several names would share one path or one path
    would be another's folder.
    """
    for placeholder in _PLACEHOLDER.findall(pattern):
        if placeholder != "{name}":
            raise UsageError(f"the output {pattern} has {placeholder}; expected {{name}}")
    if is_folder_pattern(pattern):
        for name in names:
            check_name(name)
    if "{name}" in pattern:
        filled = pattern if Path(pattern).suffix else pattern + suffix
        paths = [Path(filled.replace("{name}", name)) for name in names]
    elif is_folder_pattern(pattern):
        paths = [Path(pattern, name + suffix) for name in names]
    elif len(names) > 1:
        raise UsageError(
            f"{len(names)} outputs cannot share the file {pattern}; "
            f"give a folder (dir/) or a pattern (dir/{{name}}{suffix})"
        )
    else:
        return [Path(pattern) for _ in names]
    _check_distinct(paths, names)
    return paths


def is_folder_pattern(pattern: str) -> bool:
    """Whether outputs are named one by one in a folder, which is then created where missing."""
    return "{name}" in pattern or pattern.endswith("/") or is_folder(pattern)


def check_name(name: str) -> None:
    """Raise InputError unless the name can be a file of its own below a folder."""
    if any(map(_is_control, name)):
        raise InputError(f"the name {name!r} has a control character; expected a file name")
    if not name or name.startswith("/") or name.endswith("/") or ".." in name.split("/"):
        raise InputError(
            f"the name {name!r} cannot be a file; expected a relative path without '..'"
        )


def _is_control(character: str) -> bool:
    # Lone surrogates are no text, but for those that stand for the bytes of a name not in UTF-8.
    if "\udc80" <= character <= "\udcff":
        return False
    return unicodedata.category(character) in ("Cc", "Cs")


def _check_distinct(paths: Sequence[Path], names: Sequence[str]) -> None:
    """Raise UsageError where two outputs are one file, or one is a folder of the other."""
    owners: dict[Path, str] = {}
    for path, name in zip(paths, names, strict=True):
        place = Path(os.path.normpath(path))
        if place in owners:
            raise UsageError(
                f"{owners[place]!r} and {name!r} would both be written to {place}; rename one"
            )
        owners[place] = name
    for place, name in owners.items():
        for parent in place.parents:
            if parent in owners:
                raise UsageError(
                    f"{owners[parent]!r} would be the file {parent}, "
                    f"where {name!r} needs a folder; rename one"
                )
