"""Reading registered meshes, file by file: what every data set of scans on disk has in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError, UsageError
from facedis_core.faceset import Labels
from facedis_core.mesh import Mesh, read_mesh, topology_id
from facedis_core.preparation import Preparation
from facedis_core.simplification import vertex_map
from facedis_core.sources import Block

UNITS_MM: Final[Mapping[str, float]] = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
# Files that a worker reads at a time: few enough to share the work, many enough to make it worth
# it.
FILES_PER_BLOCK: Final = 16


@dataclass(frozen=True, eq=False)
class MeshFileReader:
    """Reads files of one registration and prepares them.

    Attributes:
        files: (N,) paths, in the order of the labels.
        vertex_counts: how many vertices a file may have, -> what says so, for the error message.
        unit_mm: millimetres of a unit where a file does not say; None leaves it to `preparation`.
        mean_face: (V, 3) mm of the set or model to follow.
    """

    files: Sequence[Path]
    preparation: Preparation
    vertex_counts: Mapping[int, str]
    unit_mm: float | None
    mean_face: NDArray[np.float32] | None = None

    def read(self, rows: Sequence[int]) -> Block:
        """Faces (n, V, 3) mm; raises InputError where a file is unusable or of other vertices."""
        faces = np.empty((len(rows), len(self.preparation.vertex_index), 3), np.float32)
        for face, row in zip(faces, rows, strict=True):
            face[...] = self._prepare(self.files[row])
        return Block(faces)

    def _prepare(self, path: Path) -> NDArray[np.float32]:
        mesh = read_mesh(path)
        if len(mesh.vertices) not in self.vertex_counts:
            expected = " or ".join(f"{n} as {who}" for n, who in self.vertex_counts.items())
            raise InputError(
                f"{path} has {len(mesh.vertices)} vertices, expected {expected}; "
                "all meshes of a set must be registered to one topology"
            )
        known = (self.preparation.raw_topology, self.preparation.topology)
        if len(mesh.triangles) and topology_id(mesh.triangles) not in known:
            raise InputError(
                f"{path} has other triangles than {self.vertex_counts[len(mesh.vertices)]}; "
                "all meshes of a set must be registered to one topology"
            )
        unit = self.unit_mm if mesh.unit_mm is None else None
        vertices = mesh.vertices if unit is None else mesh.vertices * np.float32(unit)
        # The path as the name, so that whatever is wrong with the mesh says which file it is.
        named = Mesh(vertices, mesh.triangles, str(path), mesh.unit_mm if unit is None else 1.0)
        # The whole set is aligned when it is complete; here the mean face only tells units apart.
        return self.preparation.apply(named, self.mean_face, align="none")


@dataclass(frozen=True, eq=False)
class MeshFileSource:
    """A data set of registered mesh files; only the first mesh has been read.

    Attributes:
        files: (N,) paths, in the order of the labels.
        reference: the face that decides vertex count, triangles and the choice of vertices.
        reference_file: where it was read.
        units: of files that do not say; None = millimetres, or as the preparation given says.
        simplify: about how many triangles to keep; None keeps all.
        align: `none`, `rigid` or `similarity`, to the mean face.
    """

    files: Sequence[Path]
    labels: Labels
    protocol: str
    neutral_rows: NDArray[np.bool_]
    reference: Mesh
    reference_file: Path
    units: str | None = None
    simplify: int | None = None
    align: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def preparation(self) -> Preparation:
        """All vertices, or those that carry about `simplify` triangles of the reference face."""
        vertices, triangles = self.reference.vertices, self.reference.triangles
        if not len(triangles):
            raise InputError(f"{self.reference_file} has no triangles; a face set needs them")
        unit = UNITS_MM[self.units or "mm"] if self.reference.unit_mm is None else 1.0
        chosen, kept = np.arange(len(vertices), dtype=np.int32), triangles
        if self.simplify is not None:
            chosen, kept = vertex_map(vertices * np.float32(unit), triangles, self.simplify)
        return Preparation(
            triangles=kept,
            vertex_index=chosen,
            raw_vertices=len(vertices),
            raw_topology=topology_id(triangles),
            raw_unit_mm=unit,
            alignment=self.align or "none",
        )

    def reader(
        self, preparation: Preparation, mean_face: NDArray[np.float32] | None = None
    ) -> MeshFileReader:
        """Reads each file as `preparation`, this set's or another's, says."""
        own = topology_id(self.reference.triangles) == preparation.raw_topology
        raw = str(self.reference_file) if own else "the raw data to follow"
        counts = {preparation.raw_vertices: raw}
        counts.setdefault(len(preparation.vertex_index), "the prepared face")
        unit = None if self.units is None else UNITS_MM[self.units]
        return MeshFileReader(self.files, preparation, counts, unit, mean_face)

    def blocks(self) -> Sequence[Sequence[int]]:
        """Rows in order, some at a time."""
        count = len(self.files)
        return [range(k, min(k + FILES_PER_BLOCK, count)) for k in range(0, count, FILES_PER_BLOCK)]


def check_units(units: str | None) -> None:
    """Raises UsageError for a unit that is not in the table."""
    if units is not None and units not in UNITS_MM:
        raise UsageError(f"--units is {units!r}, expected one of {', '.join(UNITS_MM)}")
