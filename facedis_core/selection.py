"""Which faces of a data set are taken: all but those that the user excludes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.sources import Missing, Source
from facedis_core.streams import read_all


class Exclusion(NamedTuple):
    """Names of faces or subjects to leave out, and the content id of the file that listed them."""

    names: frozenset[str]
    id: str


class Choice(NamedTuple):
    """The rows (N',) of a source that are taken, and the files that are missing of them."""

    rows: NDArray[np.intp]
    missing: Sequence[Missing]


def read_exclusion(path: Path) -> Exclusion:
    """Names in a text file, one a line; empty lines and lines that begin with # do not count."""
    content = read_all(str(path))
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8; expected one name a line") from None
    names = frozenset(line for line in lines if line and not line.startswith("#"))
    return Exclusion(names, hashlib.sha256(content).hexdigest()[:12])


def choose(source: Source, exclusion: Exclusion | None = None) -> Choice:
    """The faces that are not excluded by their name, their file or their subject.

    Raises InputError where none of the names is one of these, and where nothing is left.
    """
    if exclusion is None:
        return Choice(np.arange(len(source.labels.names)), source.findings.missing)
    labels, findings = source.labels, source.findings
    listed = {name for entry in exclusion.names for name in (entry, _stem(entry))}
    subjects = [labels.subjects[k] for k in labels.subject]
    excluded = np.array(
        [not listed.isdisjoint(_names(*face)) for face in zip(labels.names, subjects, strict=True)]
    )
    missing = [m for m in findings.missing if listed.isdisjoint(_names(_stem(m.file), m.subject))]
    if excluded.all():
        raise InputError(f"all {len(subjects)} faces are excluded; nothing would be left")
    if not excluded.any() and len(missing) == len(findings.missing) and not findings.excluded:
        raise InputError(
            f"{sorted(exclusion.names)[0]!r} is to be excluded, but no face or subject has that "
            "name; see --dry-run for the subjects"
            if exclusion.names
            else "the file of faces to exclude names none; leave --exclude out"
        )
    return Choice(np.flatnonzero(~excluded), missing)


def _names(face: str, subject: str) -> set[str]:
    """By what a face can be excluded: its path, whatever folder it lies in, or its subject."""
    return {face, subject, f"{subject}/{face.rpartition('/')[2]}"}


def _stem(name: str) -> str:
    """A file's path without its suffix is the name of its face."""
    return name.rpartition(".")[0] or name
