"""Layout of a data set on disk: the pattern of its file names, and missing or duplicate files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.paths import below, files_below, is_folder
from facedis_core.io.text import shown
from facedis_core.io.urls import is_url

# Levels above or below the right root at which a wrong one is still recognised.
LEVELS: Final = 3


class Listing(NamedTuple):
    """Files below a root: path -> match of the pattern, and paths that do not match."""

    found: Mapping[str, re.Match[str]]
    unknown: list[str]


@dataclass(frozen=True)
class Layout:
    """The paths of a data set's meshes, relative to its root and with `/`.

    Attributes:
        name: name of the data set, for messages.
        pattern: matches a whole path; its named groups give the labels.
        example: such a path, for messages.
    """

    name: str
    pattern: re.Pattern[str]
    example: str

    def list_files(self, root: str | Path) -> Listing:
        """Every file below the root, sorted by path; no file is opened.

        Raises InputError if none matches the layout; the message suggests the right root.
        """
        if not is_folder(root):
            raise InputError(
                f"{shown(root)} is not a folder; expected the root of {self.name}",
                ErrorCode.NOT_A_FOLDER,
            )
        files = files_below(root)
        if not files:
            raise InputError(
                f"{root} holds no files; expected {self.name}, {self.example}", ErrorCode.EMPTY
            )
        found = {file: match for file in files if (match := self.pattern.fullmatch(file))}
        if not found:
            raise InputError(
                f"{root} has no file like {self.example}; {self._advice(root, files)}",
                ErrorCode.LAYOUT,
            )
        return Listing(found, [file for file in files if file not in found])

    def _advice(self, root: str | Path, files: Iterable[str]) -> str:
        """Suggestion of the right root if the given one is some levels too high or too low."""
        place = str(root if is_url(root) else Path(root).resolve())
        above = place.rstrip("/").split("/")
        for file in files:
            parts = file.split("/")
            for depth in range(1, min(len(parts), LEVELS + 1)):
                if self.pattern.fullmatch("/".join(parts[depth:])):
                    return f"{below(root, '/'.join(parts[:depth]))} has, give that folder"
            for height in range(1, LEVELS + 1):
                if self.pattern.fullmatch("/".join((*above[-height:], file))):
                    return f"it lies within the data, give {'/'.join(above[:-height])}"
        return f"expected the root of {self.name}"


def check_unique(claims: Iterable[tuple[str, str]], root: str | Path) -> None:
    """Raise InputError if two files claim the same subject and expression."""
    first: dict[str, str] = {}
    for file, face in claims:
        if face in first:
            raise InputError(
                f"{root} has two files of {face}, {first[face]} and {file}; move one away",
                ErrorCode.NAME_DUPLICATE,
            )
        first[face] = file


def part_of(
    name: str, present: Iterable[tuple[str, str]], subjects: int, items: int, neutral: str
) -> list[str]:
    """Notes on a partial copy of a data set, from its pairs of (subject, item)."""
    there = dict.fromkeys(present)
    found, kinds = ({pair[k] for pair in there} for k in (0, 1))
    notes = []
    if (len(found), len(kinds)) != (subjects, items):
        notes.append(
            f"this is a part of {name}: {len(found)} of {subjects} people, {len(kinds)} of {items} "
            "meshes each"
        )
    if neutral not in kinds:
        notes.append(f"nobody has a neutral ({neutral})")
    return notes


def missing_of_each(present: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs (subject, item) that some subjects lack and others have, in the order given.

    A partial copy of a data set is complete if every subject has the same items.
    """
    there = dict.fromkeys(present)
    if not there:
        return []
    subjects, items = (dict.fromkeys(kind) for kind in zip(*there, strict=True))
    return [(s, item) for s in subjects for item in items if (s, item) not in there]
