"""Selection of the faces of a data set: all except those in the exclusion list."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.datasets.source import MissingFile, Source
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.csv_text import brief, read_lines, read_text
from facedis_core.io.streams import file_id
from facedis_core.mesh.mesh import CODECS
from facedis_core.mesh.meshio_formats import MESHIO_SUFFIXES

_MOST_NAMES = 200_000


class ExclusionList(NamedTuple):
    """Names of faces or subjects to exclude, and the content id of their file."""

    names: frozenset[str]
    id: str


class FaceSelection(NamedTuple):
    """The selected rows (N',) of a source, and the files that are missing among them.

    `unmatched` are excluded names that match nothing, `exclusion` is the id of the list.
    """

    rows: NDArray[np.intp]
    missing: Sequence[MissingFile]
    unmatched: Sequence[str] = ()
    exclusion: str | None = None


def read_exclusion(path: str | Path) -> ExclusionList:
    """Read names from a text file, one per line; empty lines and # comments are ignored."""
    content = read_text(str(path))
    names: set[str] = set()
    try:
        for line in read_lines(content, str(path)):
            name = line.strip()
            if name and not name.startswith("#"):
                names.add(name)
            if len(names) > _MOST_NAMES:
                raise InputError(
                    f"{path} has more than {_MOST_NAMES} names; expected those to leave out",
                    ErrorCode.TOO_LARGE,
                )
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is not text in UTF-8; expected one name a line", ErrorCode.WRONG_KIND
        ) from None
    return ExclusionList(frozenset(names), file_id(content))


def select_faces(source: Source, exclusion: ExclusionList | None = None) -> FaceSelection:
    """Select the faces that are not excluded by name, file or subject.

    Raises InputError if no name of the list matches, or if nothing is left.
    """
    if exclusion is None:
        return FaceSelection(np.arange(len(source.labels.names)), source.findings.missing)
    labels, findings = source.labels, source.findings
    shown = [labels.subjects[k] for k in labels.subject]
    faces = [_names(*face) for face in zip(labels.names, shown, strict=True)]
    gaps = [_names(_stem(gap.file), gap.subject) for gap in findings.missing]
    listed = {_stem(entry): entry for entry in exclusion.names}
    excluded = np.array([not names.isdisjoint(listed) for names in faces])
    missing = [
        gap for gap, names in zip(findings.missing, gaps, strict=True) if names.isdisjoint(listed)
    ]
    known = set().union(*faces, *gaps)
    unmatched = sorted(
        entry
        for name, entry in listed.items()
        if name not in known and not any(f"/{name}/" in f"/{out}/" for out in findings.excluded)
    )
    if len(unmatched) == len(exclusion.names):
        found = "the list of names to exclude has none"
        if unmatched:
            found = f"{brief(unmatched[0])} is to be excluded, but no face or subject has that name"
        raise InputError(f"{found}; see --dry-run for the subjects", ErrorCode.NAME_UNKNOWN)
    if excluded.all():
        raise InputError(
            f"all {len(faces)} faces are excluded; nothing would be left", ErrorCode.EMPTY
        )
    return FaceSelection(np.flatnonzero(~excluded), missing, unmatched, exclusion.id)


def _names(face: str, subject: str) -> set[str]:
    """Names by which a face can be excluded: path, subject, subject and file name."""
    return {face, subject, f"{subject}/{face.rpartition('/')[2]}"}


def _stem(name: str) -> str:
    """Path without the suffix of a mesh file."""
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in (*CODECS, *MESHIO_SUFFIXES) else name
