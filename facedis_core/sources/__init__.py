"""Data sets: each file turns one layout on disk into labelled faces.

A source is a function with the folder first and its own options after it; the table below is all
that a command has to know. What the function returns is a `Source`, so preparing a set is the same
work for every data set.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import UsageError
from facedis_core.faceset import Labels
from facedis_core.preparation import Preparation


class Block(NamedTuple):
    """Prepared faces (n, V, 3) mm; the subject's true neutral (V, 3) where a source knows it."""

    faces: NDArray[np.float32]
    neutral: NDArray[np.float32] | None = None


class Reader(Protocol):
    """Makes prepared faces; picklable, so that every worker process can have one."""

    def read(self, rows: Sequence[int]) -> Block:
        """The faces of `rows`, not yet aligned.

        Raises:
            InputError: a mesh is unusable or does not belong to the set.
        """


class Source(Protocol):
    """A data set on disk whose labels are known and whose meshes have not been read.

    Attributes:
        labels: of all N faces.
        protocol: how the split was made, in words.
        neutral_rows: bool (N,), the faces whose mean is a subject's neutral where a block brings
            none.
        inputs: name -> content id of files that were read for the labels.
        notes: what the user should know before the work begins.
    """

    labels: Labels
    protocol: str
    neutral_rows: NDArray[np.bool_]
    inputs: Mapping[str, str]
    notes: Sequence[str]

    def preparation(self) -> Preparation:
        """How this data set's raw meshes become prepared ones, unless the user says `--like`."""

    def reader(
        self, preparation: Preparation, mean_face: NDArray[np.float32] | None = None
    ) -> Reader:
        """What makes the faces; raises InputError where `preparation` is for other meshes.

        `mean_face` (V, 3) mm belongs to the set or model to follow; None = none is followed.
        """

    def blocks(self) -> Sequence[Sequence[int]]:
        """All rows, grouped as they are best read; a block with a neutral is of one subject."""


# Name of a source -> module and function that opens it. Modules are imported when they are asked
# for.
SOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "ict": ("facedis_core.sources.ict", "open_ict"),
    "folder": ("facedis_core.sources.folder", "open_folder"),
}


@dataclass(frozen=True, eq=False)
class OpenedSource:
    """A source with the options, defaults included, that it was opened with."""

    name: str
    source: Source
    options: Mapping[str, Any]


def open_source(name: str, root: Path, options: Mapping[str, Any]) -> OpenedSource:
    """Open the data set of that name in the folder `root`.

    Options that are None count as not given.

    Raises:
        UsageError: no such source, or an option that it does not have.
        InputError: the folder is not what the source expects.
    """
    opener = _opener(name)
    parameters = inspect.signature(opener).parameters
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in parameters:
            takers = [
                other for other in SOURCES if key in inspect.signature(_opener(other)).parameters
            ]
            raise UsageError(
                f"source {name} has no option --{key.replace('_', '-')}; "
                f"it is for {' and '.join(takers) or 'no source'}"
            )
    defaults = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
    return OpenedSource(name, opener(root, **given), {**defaults, **given})


def _opener(name: str) -> Callable[..., Source]:
    if name not in SOURCES:
        raise UsageError(f"there is no source {name!r}; choose from {', '.join(SOURCES)}")
    module, function = SOURCES[name]
    return getattr(import_module(module), function)
