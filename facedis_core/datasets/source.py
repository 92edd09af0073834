"""Source: the interface of all data sets, and the table of those that fd-prep reads.

A data set is one module with a function that takes the folder and its own options and returns a
`Source`, and one row in the table `SOURCES`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import Labels
from facedis_core.data.preparation import Preparation
from facedis_core.data.units import Units
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.urls import is_url

Warn = Callable[[str], None]


class MeshOptions(TypedDict, total=False):
    """Options of all data sets of mesh files; None = the default of the data set.

    Attributes:
        protocol, validation, seed: as in `protocols.make_split`.
        units: unit of meshes that do not declare one.
        simplify: approximate number of triangles to keep; 0 keeps all.
        align: alignment to the mean face: none, rigid, similarity, or stable (by vertices that
            expressions hardly move, where the data set defines them).
    """

    protocol: str | None
    validation: float | None
    seed: int
    units: Units | None
    simplify: int | None
    align: str | None


class FaceBlock(NamedTuple):
    """Faces read from some rows.

    Attributes:
        faces: (n, V, 3) mm, prepared but not aligned; NaN where a row is in `failures`.
        neutral: (V, 3) mm, the subject's true neutral if the source knows it.
        measured: (n, M) numbers measured on the raw meshes, from which labels are derived.
        failures: row -> its error.
    """

    faces: NDArray[np.float32]
    neutral: NDArray[np.float32] | None = None
    measured: NDArray[np.float64] | None = None
    failures: Mapping[int, InputError] = {}


class FaceReader(Protocol):
    """Reads prepared faces; can be pickled for worker processes."""

    def read(self, rows: Sequence[int]) -> FaceBlock:
        """Read the faces of `rows`; unusable meshes are failures of the block."""


class LabelledRows(NamedTuple):
    """The rows that a face set keeps once all meshes have been read, with their labels.

    Attributes:
        rows: (N',) rows of the source, ascending.
        labels: their labels.
        is_neutral: (N',) bool, neutral faces; a subject's neutral is their mean if no block has
            one.
        outliers: names of the faces that are dropped as outliers.
        dropped_neutrals: names of the neutral faces that are left out on request.
    """

    rows: NDArray[np.intp]
    labels: Labels
    is_neutral: NDArray[np.bool_]
    outliers: Sequence[str] = ()
    dropped_neutrals: Sequence[str] = ()


class MissingFile(NamedTuple):
    """A file that the data set lacks: path below the root, and subject."""

    file: str
    subject: str


@dataclass(frozen=True)
class ListingReport:
    """Missing, unknown and excluded files of a data set, as paths below the root.

    Attributes:
        missing: files that the layout expects.
        unknown: files that do not belong to the layout.
        excluded: names of the faces that the protocol excludes.
        incomplete: whether every copy of the data set lacks files, so that missing ones are no
            fault.
    """

    missing: Sequence[MissingFile] = ()
    unknown: Sequence[str] = ()
    excluded: Sequence[str] = ()
    incomplete: bool = False


class Source(Protocol):
    """A data set on disk: its labels are known, no mesh has been read.

    Attributes:
        root: the folder, also by URL (which ends in `/`).
        labels: labels of all N faces.
        is_neutral: (N,) bool, faces that are neutral, as far as known before meshes are read.
        protocol: description of the split.
        inputs: name -> content id of files that were read for the labels.
        notes: warnings to print before meshes are read.
        findings: missing and unknown files.
        measures: number M of values that the reader measures on each mesh; with any, neutral faces
            are known by them alone.
        region: name of the region that metrics count by default; None = all vertices.
    """

    root: str | Path
    labels: Labels
    is_neutral: NDArray[np.bool_]
    protocol: str
    inputs: Mapping[str, str]
    notes: Sequence[str]
    findings: ListingReport
    measures: ClassVar[int]
    region: ClassVar[str | None]

    def preparation(
        self, rows: NDArray[np.intp], warn: Warn, *, keep_going: bool = False
    ) -> Preparation:
        """The preparation of this data set's raw meshes, if there is no `--like`.

        Reads one of the `rows` as the reference mesh; with `keep_going` unreadable ones are
        skipped.
        """

    def reader(
        self,
        preparation: Preparation,
        rows: NDArray[np.intp],
        mean_face: NDArray[np.float32] | None = None,
    ) -> FaceReader:
        """The reader of `rows`.

        `mean_face` (V, 3) mm is that of the `--like` file, if there is one. Raises InputError if
        `preparation` is for meshes of another topology.
        """

    def blocks(self) -> Sequence[Sequence[int]]:
        """All rows in blocks to read at once; a block with a true neutral is of one subject."""

    def label_rows(self, rows: NDArray[np.intp], measured: NDArray[np.float64]) -> LabelledRows:
        """Final labels of the `rows` (n,) that were read, from what was `measured` (n, M)."""


# Name of a data set -> module, imported on demand, and function that opens it.
SOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "coma": ("facedis_core.datasets.coma", "open_coma"),
    "bu3dfe": ("facedis_core.datasets.bu3dfe", "open_bu3dfe"),
    "facescape": ("facedis_core.datasets.facescape", "open_facescape"),
    "facewarehouse": ("facedis_core.datasets.facewarehouse", "open_facewarehouse"),
    "ict": ("facedis_core.datasets.ict", "open_ict"),
    "folder": ("facedis_core.datasets.folder", "open_folder"),
    "scans": ("facedis_core.datasets.scans", "open_scans"),
}


@dataclass(frozen=True, eq=False)
class OpenedSource:
    """A source with its name and all its options, defaults included."""

    name: str
    source: Source
    options: Mapping[str, Any] = field(default_factory=dict)


def open_source(name: str, root: str | Path, options: Mapping[str, Any]) -> OpenedSource:
    """Open the data set of that name in a folder, also by URL; options that are None are ignored.

    Raises:
        UsageError: an unknown source, or an option that it does not have.
        InputError: the folder does not have the layout of the data set.
    """
    if is_url(root) and not str(root).endswith("/"):
        root = f"{root}/"
    opener = _opener(name)
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in _known_options(opener):
            takers = [other for other in SOURCES if key in _known_options(_opener(other))]
            raise UsageError(
                f"source {name} has no option --{key.replace('_', '-')}; "
                f"it is for {' and '.join(takers) or 'no source'}",
                ErrorCode.OPTION_CONFLICT,
            )
    parameters = inspect.signature(opener).parameters
    defaults = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
    defaults.setdefault("seed", 0)  # every source has one
    return OpenedSource(name, opener(root, **given), {**defaults, **given})


def _known_options(opener: Callable[..., Source]) -> set[str]:
    parameters = inspect.signature(opener).parameters.values()
    named = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    any_others = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return named | set(MeshOptions.__annotations__) if any_others else named


def _opener(name: str) -> Callable[..., Source]:
    if name not in SOURCES:
        raise UsageError(
            f"there is no source {name!r}; choose from {', '.join(SOURCES)}", ErrorCode.OPTION_VALUE
        )
    module, function = SOURCES[name]
    return getattr(import_module(module), function)
