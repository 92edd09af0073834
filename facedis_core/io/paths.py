"""Paths that users give: existence, files below a folder, names of outputs.

Standard library only, so that an output can be refused before anything heavy is imported.
"""

import os
import re
import unicodedata
from pathlib import Path

from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.remote import remote_exists, remote_files_below
from facedis_core.io.urls import is_url, refuse_url

_MOST_FOLDERS = 100_000
_NUMBER = re.compile(r"([0-9]+)")
_PLACEHOLDER = re.compile(r"\{[^{}/]*\}")


# Those of pathlib raise where a folder may not be searched or a name is too long. Here the answer
# is False, and opening the path then says why. A URL is a folder if it ends in a slash.


def is_folder(path: str | Path) -> bool:
    """Whether this is a folder; False if it cannot be accessed."""
    if is_url(path):
        return str(path).endswith("/")
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Whether this is a regular file; False if it cannot be accessed."""
    if is_url(path):
        return not str(path).endswith("/") and remote_exists(str(path))
    return os.path.isfile(path)  # noqa: PTH113


def exists(path: str | Path) -> bool:
    """Whether the path exists; False if it cannot be accessed."""
    if is_url(path):
        return remote_exists(str(path))
    return os.path.exists(path)  # noqa: PTH110


def below(folder: str | Path, file: str) -> str:
    """Path or URL of a file below a folder.

    Example:
        >>> below("s3://bucket/scans/", "ann/smile.ply"), below("scans", "ann/smile.ply")
        ('s3://bucket/scans/ann/smile.ply', 'scans/ann/smile.ply')
    """
    return f"{folder}{file}" if is_url(folder) else str(Path(folder, file))


def absolute(path: str | Path) -> Path:
    """The absolute path; links are not followed, so that they keep their own names."""
    return Path(os.path.abspath(path))  # noqa: PTH100


# Suffixes of meshes and scenes, of some of which no command writes any.
_SURFACES = {
    *(".ply", ".obj", ".wrl", ".off", ".stl", ".vtk", ".vtp", ".vtu", ".glb", ".gltf"),
    *(".pc2", ".mdd"),
    *(".fbx", ".dae", ".blend", ".abc", ".usd", ".usda", ".usdc", ".usdz"),
}
# Suffixes that say what a file holds.
_TELLING = {
    *_SURFACES,
    *(".npy", ".npz", ".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".onnx"),
    *(".csv", ".tsv", ".json", ".jsonl", ".xml", ".html", ".htm", ".tex", ".md"),
    *(".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp4", ".svg", ".pdf"),
}


def check_suffix(target: str | None, what: str, *suffixes: str) -> None:
    """Raise UsageError for an output whose suffix says that it holds something else.

    Args:
        target: the output; None = there is none.
        what: what is written, for the message.
        suffixes: those that fit; one that says nothing, such as `.tmp`, fits as well.
    """
    found = Path(target or "").suffix.lower()
    if found in _TELLING and found not in suffixes:
        raise UsageError(
            f"the output {target} ends in {found}, but holds {what}; give a name that ends in "
            f"{' or '.join(suffixes)}",
            ErrorCode.OUTPUT_SUFFIX,
        )


def names_surface(target: str) -> bool:
    """Whether the suffix of an output says that it holds a mesh or a scene."""
    return Path(target).suffix.lower() in _SURFACES


def files_below(
    folder: str | Path, at_most: int = 1_000_000, *, broken_links: bool = False
) -> list[str]:
    """Paths of all files in a folder and below it, relative and with `/`, sorted.

    Hidden files and folders are left out; links to folders are followed, but never in a circle;
    `broken_links` also lists links without a target.
    Raises InputError if a folder cannot be read, or there are more than `at_most` files or 100,000
    folders (a few links between folders can make that many).
    """
    if is_url(folder):
        return remote_files_below(str(folder))
    refuse_url(folder)
    found: list[str] = []
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    folders = 0
    while waiting:
        prefix, above = waiting.pop()
        folders += 1
        place = os.path.join(folder, prefix)  # noqa: PTH118
        try:
            here = os.stat(place)  # noqa: PTH116
            with os.scandir(place) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except OSError as error:
            raise InputError(
                f"{place}: {error.strerror}; expected a folder of meshes", ErrorCode.FILE_UNREADABLE
            ) from error
        inside = above | {(here.st_dev, here.st_ino)}
        if len(inside) > len(above):  # else a link has led back to a folder around it
            found += [prefix + entry.name for entry in entries if is_file(entry.path)]
            if broken_links:
                lost = (entry for entry in entries if entry.is_symlink())
                found += [prefix + entry.name for entry in lost if not exists(entry.path)]
            waiting += [(f"{prefix}{e.name}/", inside) for e in entries if is_folder(e.path)]
        if len(found) > at_most or folders + len(waiting) > _MOST_FOLDERS:
            raise InputError(
                f"{folder} holds more than {at_most} files or {_MOST_FOLDERS} folders; expected a "
                "folder of meshes and little else, give the one that they are in",
                ErrorCode.TOO_LARGE,
            )
    return sorted(found)


def natural_key(text: str) -> tuple[str | int, ...]:
    """Sorts `shape_2` before `shape_10`: numbers in a text by their value."""
    parts = _NUMBER.split(text)
    # Python does not read numbers of thousands of digits
    return tuple(int(p) if p.isdecimal() and len(p) < 1000 else p for p in parts)


class OutputPaths:
    """The file of every output, by a pattern.

    `out.ply` is for one output whatever its name; `dir/` and an existing folder get `<name>.ply`;
    in `dir/{name}_{part}.obj` name and part are put in, and `.ply`, or another `suffix`, appended
    where the pattern has none.  A `/` in a name makes a subfolder.
    """

    def __init__(self, pattern: str, suffix: str = ".ply") -> None:
        """Raises UsageError for a placeholder that is neither {name} nor {part}."""
        for placeholder in _PLACEHOLDER.findall(pattern):
            if placeholder not in ("{name}", "{part}"):
                raise UsageError(
                    f"the output {pattern} has {placeholder}; expected {{name}} or {{part}}",
                    ErrorCode.OUTPUT_PATTERN,
                )
        self.pattern, self._suffix = pattern, suffix
        # a file per output, in folders that are created
        self.many = is_folder_pattern(pattern)
        if self.many and not _PLACEHOLDER.search(pattern):
            folder = pattern.removesuffix("/") if is_url(pattern) else pattern.rstrip("/") or "/"
            pattern = f"{folder}/{{name}}{suffix}"
        self._filled = pattern if Path(pattern).suffix else f"{pattern}{suffix}"
        self._owners: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def of(self, name: str, part: str = "full") -> str:
        """The path or URL of one output.

        Raises:
            InputError: a name that is empty, absolute, climbs by `..` or has control characters.
            UsageError: the path is that of an earlier output, or one is the other's folder.
        """
        if not self.many:
            if self._owners:
                raise UsageError(
                    f"several outputs cannot share the file {self.pattern}; "
                    f"give a folder (dir/) or a pattern (dir/{{name}}{self._suffix})",
                    ErrorCode.OUTPUT_COLLISION,
                )
            self._owners[self.pattern] = name
            return self.pattern
        check_name(name)
        values = {"{name}": name, "{part}": part}
        path = _PLACEHOLDER.sub(lambda found: values[found[0]], self._filled)
        self._claim(path if is_url(path) else os.path.normpath(path), name)
        return path

    def _claim(self, place: str, name: str) -> None:
        if place in self._owners:
            raise UsageError(
                f"{self._owners[place]!r} and {name!r} would both be written to {place}; rename "
                "one, or tell them apart by {name} and {part} in the output",
                ErrorCode.OUTPUT_COLLISION,
            )
        if place in self._folders:
            raise _folder_needed(name, place, self._folders[place])
        self._owners[place] = name
        folder = os.path.dirname(place)  # noqa: PTH120 - many times faster than pathlib
        while folder and folder not in self._folders:
            if folder in self._owners:
                raise _folder_needed(self._owners[folder], folder, name)
            self._folders[folder] = name
            above = os.path.dirname(folder)  # noqa: PTH120 - likewise
            folder = above if above != folder else ""


def _folder_needed(name: str, place: str, other: str) -> UsageError:
    return UsageError(
        f"{name!r} would be the file {place}, where {other!r} needs a folder; rename one",
        ErrorCode.OUTPUT_COLLISION,
    )


def is_folder_pattern(pattern: str) -> bool:
    """Whether each output is a file of its own in a folder, which is created if missing."""
    return bool(_PLACEHOLDER.search(pattern)) or pattern.endswith("/") or is_folder(pattern)


def check_name(name: str) -> None:
    """Raise InputError unless the name can be a file of its own below a folder."""
    if not name.isprintable() and any(map(_is_control, name)):
        raise InputError(
            f"the name {name!r} has a control character; expected a file name",
            ErrorCode.NAME_INVALID,
        )
    if not name or name.startswith("/") or name.endswith("/") or ".." in name.split("/"):
        raise InputError(
            f"the name {name!r} cannot be a file; expected a relative path without '..'",
            ErrorCode.NAME_INVALID,
        )


def _is_control(character: str) -> bool:
    # Lone surrogates are no text, but for those that stand for the bytes of a name not in UTF-8.
    if "\udc80" <= character <= "\udcff":
        return False
    return unicodedata.category(character) in ("Cc", "Cs")
