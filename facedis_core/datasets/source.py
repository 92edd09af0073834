"""Data sets: each file turns one layout on disk into labelled faces.

A source is a function with the folder first and its own options after it; the table below is all
that a command has to know. What the function returns is a `Source`, so preparing a set is the same
work for every data set.
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
from facedis_core.errors import UsageError

Warn = Callable[[str], None]


class MeshOptions(TypedDict, total=False):
    """What all data sets of mesh files let the user choose; None = the data set's own way.

    Attributes:
        protocol, validation, seed: as in `protocols.make_split`.
        units: of meshes that do not say: mm, cm, dm or m.
        simplify: about how many triangles to keep; 0 keeps all.
        align: none, rigid or similarity, to the mean face; stable where stable vertices are known.
    """

    protocol: str | None
    validation: float | None
    seed: int
    units: str | None
    simplify: int | None
    align: str | None


class Block(NamedTuple):
    """What was read of some rows.

    Attributes:
        faces: (n, V, 3) mm, prepared but not aligned; NaN where a row is in `failures`.
        neutral: (V, 3) mm, the subject's true neutral where a source knows it.
        measured: (n, M) what the source wants to know of the raw meshes to settle labels later.
        failures: row -> why it could not be read.
    """

    faces: NDArray[np.float32]
    neutral: NDArray[np.float32] | None = None
    measured: NDArray[np.float64] | None = None
    failures: Mapping[int, str] = {}


class Reader(Protocol):
    """Makes prepared faces; picklable, so that every worker process can have one."""

    def read(self, rows: Sequence[int]) -> Block:
        """The faces of `rows`; a mesh that is unusable or of another set is a failure."""


class LabelledRows(NamedTuple):
    """What a set holds when all meshes have been read.

    Attributes:
        rows: (N',) that stay, ascending.
        labels: of these rows.
        at_rest: (N',) faces whose mean is a subject's neutral where no block brought one.
        outliers: names of faces that do not stay.
    """

    rows: NDArray[np.intp]
    labels: Labels
    at_rest: NDArray[np.bool_]
    outliers: Sequence[str] = ()


class MissingFile(NamedTuple):
    """A file that should be there, as a path below the root, and whose it is."""

    file: str
    subject: str


@dataclass(frozen=True)
class ListingReport:
    """What the listing of a data set shows beside its faces: paths below the root.

    Attributes:
        missing: files that should be there.
        unknown: files that are not of the layout.
        excluded: faces that the protocol leaves out, by name.
        incomplete: whether every copy of the data set lacks some files, so that it is no fault.
    """

    missing: Sequence[MissingFile] = ()
    unknown: Sequence[str] = ()
    excluded: Sequence[str] = ()
    incomplete: bool = False


class Source(Protocol):
    """A data set on disk whose labels are known and of which no mesh has been read.

    Attributes:
        root: the folder.
        labels: of all N faces.
        protocol: how the split was made, in words.
        inputs: name -> content id of files that were read for the labels.
        notes: what the user should know before the work begins.
        findings: what else lies there, and what does not.
        measures: how many numbers M a reader measures of each mesh.
    """

    root: Path
    labels: Labels
    protocol: str
    inputs: Mapping[str, str]
    notes: Sequence[str]
    findings: ListingReport
    measures: ClassVar[int]

    def preparation(
        self, rows: NDArray[np.intp], warn: Warn, *, keep_going: bool = False
    ) -> Preparation:
        """How this data set's raw meshes become prepared ones, unless the user says `--like`.

        One of the `rows` is read as the reference; with `keep_going` those that cannot be read are
        passed over.
        """

    def reader(
        self,
        preparation: Preparation,
        rows: NDArray[np.intp],
        mean_face: NDArray[np.float32] | None = None,
    ) -> Reader:
        """What makes the faces of `rows`, those of the set.

        `mean_face` (V, 3) mm belongs to the set or model to follow; None = none is followed.
        Raises InputError where `preparation` is for other meshes.
        """

    def blocks(self) -> Sequence[Sequence[int]]:
        """All rows, grouped as they are best read; a block with a neutral is of one subject."""

    def settle(self, rows: NDArray[np.intp], measured: NDArray[np.float64]) -> LabelledRows:
        """Decide what the set holds; `rows` (n,) were read, `measured` (n, M) of them."""


# Name of a source -> module and function that opens it. Modules are imported when they are asked
# for.
SOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "coma": ("facedis_core.datasets.coma", "open_coma"),
    "bu3dfe": ("facedis_core.datasets.bu3dfe", "open_bu3dfe"),
    "facescape": ("facedis_core.datasets.facescape", "open_facescape"),
    "facewarehouse": ("facedis_core.datasets.facewarehouse", "open_facewarehouse"),
    "ict": ("facedis_core.datasets.ict", "open_ict"),
    "folder": ("facedis_core.datasets.folder", "open_folder"),
}


@dataclass(frozen=True, eq=False)
class OpenedSource:
    """A source with the options, defaults included, that it was opened with."""

    name: str
    source: Source
    options: Mapping[str, Any] = field(default_factory=dict)


def open_source(name: str, root: Path, options: Mapping[str, Any]) -> OpenedSource:
    """Open the data set of that name in the folder `root`.

    Options that are None count as not given.

    Raises:
        UsageError: no such source, or an option that it does not have.
        InputError: the folder is not what the source expects.
    """
    opener = _opener(name)
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in _known_options(opener):
            takers = [other for other in SOURCES if key in _known_options(_opener(other))]
            raise UsageError(
                f"source {name} has no option --{key.replace('_', '-')}; "
                f"it is for {' and '.join(takers) or 'no source'}"
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
        raise UsageError(f"there is no source {name!r}; choose from {', '.join(SOURCES)}")
    module, function = SOURCES[name]
    return getattr(import_module(module), function)
