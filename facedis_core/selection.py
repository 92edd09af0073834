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

    Raises InputError for a name that is none of these, and where nothing is left.
    """
    if exclusion is None:
        return Choice(np.arange(len(source.labels.names)), source.findings.missing)
    labels, listed = source.labels, exclusion.names
    plain = {name for entry in listed for name in (entry, _stem(entry))}
    missing = source.findings.missing
    known = {*labels.names, *labels.subjects, *(name for m in missing for name in _names(m))}
    for name in sorted(listed):
        if not {name, _stem(name)} & known and not _left_out_already(name, source):
            raise InputError(
                f"{name!r} is to be excluded, but no face or subject has that name; "
                "see --dry-run for the subjects"
            )
    people = np.array(labels.subjects)[labels.subject]
    excluded = np.isin(labels.names, list(plain)) | np.isin(people, list(listed))
    if excluded.all():
        raise InputError(f"all {len(people)} faces are excluded; nothing would be left")
    return Choice(np.flatnonzero(~excluded), [m for m in missing if not {*_names(m)} & plain])


def _stem(name: str) -> str:
    """A file's path without its suffix is the name of its face."""
    return name.rpartition(".")[0] or name


def _names(missing: Missing) -> tuple[str, str]:
    return _stem(missing.file), missing.subject


def _left_out_already(name: str, source: Source) -> bool:
    """Whether the protocol leaves it out in any case."""
    return any(f"/{_stem(name)}/" in f"/{face}/" for face in source.findings.excluded)
