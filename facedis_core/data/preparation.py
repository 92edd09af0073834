"""Preparation: how raw meshes become prepared ones (vertex map, unit, alignment).

Face sets and models carry this record, so that a raw mesh can be encoded straight from the data
set, and `fd-prep --like` can prepare new data the same way.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from facedis_core.data.units import UNITS_MM, Units, unit_of_registered
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.alignment import RigidTransform, rigid_alignment
from facedis_core.io.safetensors_file import SafetensorsFile, parse_record
from facedis_core.mesh.mesh import Mesh, topology_id

Align = Literal["auto", "none", "rigid", "similarity"]

ALIGNMENTS: Final = ("none", "rigid", "similarity")


@dataclass(frozen=True, eq=False)
class Preparation:
    """The fixed way from raw meshes to prepared ones.

    Attributes:
        triangles: int32 (F, 3), of the prepared mesh.
        vertex_index: int32 (V,), which raw vertex each prepared one is.
        raw_vertices: vertex count of a raw mesh.
        raw_topology: topology id of a raw mesh, triangulated in file order.
        raw_unit_mm: millimetres per raw unit.
        alignment: `none`, `rigid` or `similarity`, to the mean face.
        stable_vertices: prepared vertices that alignment looks at; empty = all.
    """

    triangles: np.ndarray
    vertex_index: np.ndarray
    raw_vertices: int
    raw_topology: str
    raw_unit_mm: float
    alignment: str = "none"
    stable_vertices: tuple[int, ...] = ()

    @property
    def topology(self) -> str:
        """Topology id of the prepared mesh."""
        return topology_id(self.triangles)

    def apply(
        self,
        mesh: Mesh,
        mean_face: np.ndarray | None,
        *,
        units: Units = "auto",
        align: Align = "auto",
        trust_order: bool = False,
    ) -> np.ndarray:
        """Vertices of `mesh`, raw or prepared, as prepared ones: float32 (V, 3) mm.

        Args:
            mesh: V or `raw_vertices` vertices.
            mean_face: (V, 3) mm, what alignment aims at; None leaves alignment out.
            units: unit of meshes that do not declare one; `auto` takes that of the data set if
                the mesh has the size of the mean face in it, else the unit in which it has.
            align: `auto` repeats the alignment of the data set.
            trust_order: accept other triangles when the vertex count is right.

        Raises:
            InputError: another vertex count, other triangles, or the size of the mean face in
                another unit than `units`.
        """
        return self.place(
            mesh, mean_face, units=units, align=align, trust_order=trust_order
        ).vertices

    def place(
        self,
        mesh: Mesh,
        mean_face: np.ndarray | None,
        *,
        units: Units = "auto",
        align: Align = "auto",
        trust_order: bool = False,
    ) -> "PlacedFace":
        """The same as `apply`, with the way back."""
        count, prepared = len(mesh.vertices), len(self.vertex_index)
        if count not in (prepared, self.raw_vertices):
            raw = f" or {self.raw_vertices}" if self.raw_vertices != prepared else ""
            raise InputError(
                f"{mesh.name or 'mesh'} has {count} vertices, expected {prepared}{raw}; "
                "only meshes registered to this topology fit (see fd-prep)",
                ErrorCode.VERTEX_COUNT,
            )
        self._check_topology(mesh, trust_order)
        vertices, rows, unit = mesh.vertices, None, 1.0
        if count == self.raw_vertices and (
            count != prepared or not np.array_equal(mesh.triangles, self.triangles)
        ):
            rows = self.vertex_index
            vertices = vertices[rows]
        if mesh.unit_mm is None:
            unit = self._unit_mm(mesh, vertices, mean_face, units)
            vertices = vertices if unit == 1 else vertices * np.float32(unit)
        alignment = self._alignment(
            vertices, mean_face, self.alignment if align == "auto" else align
        )
        if alignment is not None:
            vertices = alignment.apply(vertices)
        return PlacedFace(np.ascontiguousarray(vertices, np.float32), rows, unit, alignment)

    def _unit_mm(
        self,
        mesh: Mesh,
        vertices: np.ndarray,
        mean_face: np.ndarray | None,
        units: Units,
    ) -> float:
        declared = self.raw_unit_mm if len(mesh.vertices) == self.raw_vertices else 1.0
        if mean_face is None:
            return declared if units == "auto" else UNITS_MM[units]
        return unit_of_registered(
            vertices, mean_face, units=units, declared_mm=declared, label=mesh.name or "mesh"
        )

    def _check_topology(self, mesh: Mesh, trust_order: bool) -> None:
        if trust_order or not len(mesh.triangles):
            return
        if len(mesh.vertices) == len(self.vertex_index) and np.array_equal(
            mesh.triangles, self.triangles
        ):
            return  # as nearly always, and many times faster than an id
        found = topology_id(mesh.triangles)
        known = []
        if len(mesh.vertices) == len(self.vertex_index):
            known.append(self.topology)
        if len(mesh.vertices) == self.raw_vertices and self.raw_topology not in known:
            known.append(self.raw_topology)
        if found not in known:
            raise InputError(
                f"{mesh.name or 'mesh'} has topology {found}, expected "
                f"{' or '.join(known)}; the vertex count fits but the triangles differ, "
                "pass --trust-order if the vertex order is known to be right",
                ErrorCode.TOPOLOGY,
            )

    def _alignment(
        self, vertices: np.ndarray, mean_face: np.ndarray | None, alignment: str
    ) -> RigidTransform | None:
        if alignment == "none" or mean_face is None:
            return None
        chosen = np.array(self.stable_vertices or range(len(vertices)), np.int64)
        return rigid_alignment(vertices[chosen], mean_face[chosen], scale=alignment == "similarity")

    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays of this record, by the names used in our files."""
        return {"triangles": self.triangles, "vertex_index": self.vertex_index}

    def metadata(self) -> dict[str, Any]:
        """The rest of this record, for the metadata of our files."""
        return {
            "topology": self.topology,
            "raw_vertices": self.raw_vertices,
            "raw_topology": self.raw_topology,
            "raw_unit_mm": self.raw_unit_mm,
            "alignment": {"kind": self.alignment, "stable_vertices": list(self.stable_vertices)},
        }

    @classmethod
    def from_file(cls, file: SafetensorsFile) -> "Preparation":
        """Read the record back out of a face set or a model.

        Raises:
            InputError: parts are missing or the stored topology id does not fit the triangles.
        """
        stored = parse_record(_Metadata, file.metadata)
        vertex_index = _indices(file.tensors, "vertex_index", 1, stored.raw_vertices)
        preparation = cls(
            triangles=_indices(file.tensors, "triangles", 2, len(vertex_index)),
            vertex_index=vertex_index,
            raw_vertices=stored.raw_vertices,
            raw_topology=stored.raw_topology,
            raw_unit_mm=stored.raw_unit_mm,
            alignment=stored.alignment.kind,
            stable_vertices=tuple(stored.alignment.stable_vertices),
        )
        _check_plausible(preparation)
        if preparation.topology != stored.topology:
            raise InputError(
                f"has triangles of topology {preparation.topology} but says "
                f"{stored.topology!r}; the file is damaged",
                ErrorCode.DAMAGED,
            )
        return preparation


@dataclass(frozen=True, eq=False)
class PlacedFace:
    """A prepared face and the way back to its mesh.

    Attributes:
        vertices: prepared, float32 (V, 3) mm.
        rows: (V,) vertices of the mesh that these are; None = all, in order.
        unit_mm: millimetres per unit of the mesh.
        alignment: from the mesh, in mm, to the prepared face; None = none.
    """

    vertices: np.ndarray
    rows: np.ndarray | None
    unit_mm: float
    alignment: RigidTransform | None

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3), from the frame of the prepared face to that of the mesh."""
        return np.eye(3) if self.alignment is None else self.alignment.rotation.T

    def from_mesh(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the mesh in the model's frame, in mm."""
        points = points * np.float32(self.unit_mm)
        return points if self.alignment is None else self.alignment.apply(points)

    def offsets_in_mesh(self, offsets: np.ndarray) -> np.ndarray:
        """Offsets (..., 3) mm of a prepared face in the unit and pose of the mesh, float64."""
        exact = np.asarray(offsets, np.float64)
        if self.alignment is None:
            return exact / self.unit_mm
        # the inverse of a rotation is its transpose
        return exact @ self.alignment.rotation / (self.alignment.scale * self.unit_mm)


@dataclass(frozen=True)
class _Alignment:
    """The alignment in the metadata of a file."""

    kind: str
    stable_vertices: list[Any]


@dataclass(frozen=True)
class _Metadata:
    """The preparation in the metadata of a file."""

    topology: str
    raw_vertices: int
    raw_topology: str
    raw_unit_mm: float
    alignment: _Alignment


def _indices(tensors: Mapping[str, np.ndarray], name: str, ndim: int, limit: int) -> np.ndarray:
    """A tensor of int32 vertex numbers: (N,), or (N, 3) where `ndim` is 2."""
    array = tensors.get(name)
    if array is None:
        raise InputError(f"lacks {name!r}; make it again with facedis", ErrorCode.TENSOR)
    if array.dtype != np.int32 or array.ndim != ndim or array.shape[1:] not in ((), (3,)):
        raise InputError(
            f"tensor {name!r} is {array.dtype} {array.shape}, expected int32 vertex "
            "numbers; make it again with facedis",
            ErrorCode.TENSOR,
        )
    if array.size and not 0 <= array.min() <= array.max() < limit:
        raise InputError(
            f"{name!r} names vertices outside of the {limit} there are", ErrorCode.VERTEX_INDEX
        )
    return array


def _check_plausible(preparation: Preparation) -> None:
    if not len(preparation.vertex_index):
        raise InputError(
            "is for meshes without vertices; make it again with facedis", ErrorCode.DAMAGED
        )
    if not preparation.raw_unit_mm > 0:
        raise InputError(
            f"says a raw unit is {preparation.raw_unit_mm} mm; it is damaged", ErrorCode.METADATA
        )
    if preparation.alignment not in ALIGNMENTS:
        raise InputError(
            f"has alignment {preparation.alignment!r}, expected one of "
            f"{', '.join(ALIGNMENTS)}; update facedis",
            ErrorCode.METADATA,
        )
    for vertex in preparation.stable_vertices:
        if type(vertex) is not int or not 0 <= vertex < len(preparation.vertex_index):
            raise InputError(
                f"aligns by vertex {reprlib.repr(vertex)}, of {len(preparation.vertex_index)}; "
                "it is damaged",
                ErrorCode.VERTEX_INDEX,
            )
