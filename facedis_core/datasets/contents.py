"""Contents of a data set: faces per expression, subject and split, and what was left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import SPLITS, Labels
from facedis_core.datasets.selection import FaceSelection
from facedis_core.datasets.source import LabelledRows, ListingReport, OpenedSource
from facedis_core.errors import InputError
from facedis_core.model.bundled import bundled_topologies


class ClassCount(NamedTuple):
    """Number of faces of one class (all, an expression or a subject), in total and per split."""

    what: str
    name: str
    faces: int
    splits: Mapping[str, int]


def count_faces(labels: Labels, rows: NDArray[np.intp] | None = None) -> Iterator[ClassCount]:
    """Counts of all faces, of each expression and of each subject; `rows` None = all rows."""
    chosen = np.arange(len(labels.names)) if rows is None else rows
    split = np.asarray(labels.split)[chosen]

    def count(what: str, name: str, mine: NDArray[np.bool_]) -> ClassCount:
        found = {key: int((split[mine] == code).sum()) for key, code in SPLITS.items()}
        return ClassCount(what, name, int(mine.sum()), found)

    yield count("all", "", np.ones(len(chosen), bool))
    for what, classes, number in (
        ("expression", labels.expressions, labels.expression),
        ("subject", labels.subjects, labels.subject),
    ):
        of_face = np.asarray(number)[chosen]
        for k, name in enumerate(classes):
            if (mine := of_face == k).any():
                yield count(what, name, mine)


@dataclass(frozen=True)
class PreparationReport:
    """Counts of the faces in a face set, and the files that were left out.

    Attributes:
        source, protocol: name of the data set, description of the split.
        counts: from `count_faces`.
        failed: file -> error message.
        missing: files that the layout expects.
        unknown: files that do not belong to the layout.
        excluded: names of faces excluded by the user or by the protocol.
        outliers: names of faces dropped as outliers.
        dropped_neutrals: names of neutral faces left out on request.
        fault: whether files failed or are missing that should not.
        vertices, topology: of every face.
        size_mm: largest extent of the first face.
        region: vertices that metrics count, in words; empty = all.
    """

    source: str
    protocol: str
    counts: Sequence[ClassCount]
    failed: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    unknown: Sequence[str] = ()
    excluded: Sequence[str] = ()
    outliers: Sequence[str] = ()
    dropped_neutrals: Sequence[str] = ()
    fault: bool = False
    vertices: int = 0
    topology: str = ""
    size_mm: float = 0.0
    region: str = ""

    @classmethod
    def of(
        cls,
        opened: OpenedSource,
        chosen: FaceSelection,
        labelled: LabelledRows,
        failures: Mapping[int, InputError],
    ) -> "PreparationReport":
        """The report on a set of the rows `chosen`; `failures`: row -> its error."""
        source = opened.source
        findings: ListingReport = source.findings
        names = source.labels.names
        left_out = np.setdiff1d(np.arange(len(names)), chosen.rows)
        return cls(
            source=opened.name,
            protocol=source.protocol,
            counts=list(count_faces(labelled.labels)),
            failed={names[row]: str(failures[row]) for row in sorted(failures)},
            missing=[missing.file for missing in chosen.missing],
            unknown=list(findings.unknown),
            excluded=sorted([*findings.excluded, *(names[row] for row in left_out)]),
            outliers=list(labelled.outliers),
            dropped_neutrals=list(labelled.dropped_neutrals),
            fault=bool(failures) or (bool(chosen.missing) and not findings.incomplete),
        )

    @property
    def faces(self) -> int:
        """Number of faces in the set."""
        return self.counts[0].faces

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        left_out = {
            "failed": dict(self.failed),
            "missing": list(self.missing),
            "outliers": list(self.outliers),
            "neutrals": list(self.dropped_neutrals),
            "excluded": list(self.excluded),
            "unknown_files": list(self.unknown),
        }
        return {
            "source": self.source,
            "protocol": self.protocol,
            "faces": self.faces,
            "left_out": left_out,
            "counts": [
                {"what": c.what, "name": c.name, "faces": c.faces, **c.splits} for c in self.counts
            ],
        }

    def summary(self, output: str) -> str:
        """A line about the set that was written to `output`."""
        people = sum(count.what == "subject" for count in self.counts)
        splits = ", ".join(f"{n} {name}" for name, n in self.counts[0].splits.items() if n)
        bundled = bundled_topologies().items()
        same = [name for name, topology in bundled if topology == self.topology]
        region = f" (metrics count {self.region})" if self.region else ""
        dropped = len(self.dropped_neutrals)
        without = f" without {dropped} neutral faces" if dropped else ""
        return (
            f"{self.faces} faces written to {output}{without}: {people} people ({splits}), "
            f"{self.vertices} vertices{region}, {self.size_mm:.3g} mm high, topology of "
            f"{' and '.join(same) or 'no bundled model'}"
        )

    def lines(self) -> Iterator[str]:
        """Warnings about failed and missing files and outliers, one line per kind."""
        yield from _lines(("faces that could not be used", list(self.failed)))
        if self.fault:
            yield from _lines(("missing files", self.missing))
        yield from _lines(("faces dropped as outliers", self.outliers))


def listing_lines(
    findings: ListingReport, missing: Sequence[str] = (), unmatched: Sequence[str] = ()
) -> Iterator[str]:
    """Warnings about the files of a data set before any is read, one line per kind."""
    yield from _lines(
        ("excluded names that match nothing", unmatched),
        ("missing files", missing),
        ("files ignored because they do not belong to this layout", findings.unknown),
        ("faces excluded by the protocol", findings.excluded),
    )


def _lines(*kinds: tuple[str, Sequence[str]]) -> Iterator[str]:
    for what, names in kinds:
        if names:
            yield f"{what} ({len(names)}): {_some(names)}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown}, ..." if len(names) > 3 else shown
