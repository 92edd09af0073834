"""Maps between two topologies: meshes of another rig as faces of a model, and back.

A map is made once, of one head at rest in both topologies (fd-map). It carries displacements from
this head by fixed sparse matrices, so expressions are not aligned one by one: aligned by
itself an open jaw would turn the skull.
"""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.history import HistoryStep
from facedis_core.data.units import Units, unit_of_registered
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.alignment import RigidTransform, robust_alignment
from facedis_core.geometry.sparse import SparseRows
from facedis_core.io.safetensors_file import (
    SafetensorsFile,
    content_id,
    not_finite,
    parse_record,
    read_safetensors,
    write_safetensors,
)
from facedis_core.io.streams import naming, open_output
from facedis_core.io.text import shown
from facedis_core.mesh.mesh import Mesh, topology_id

# Stable vertices of one character stay within some mm; farther off a head stands elsewhere.
ELSEWHERE_MM: Final = 20.0
_MATRICES: Final = ("to_model", "to_rig")


@dataclass(frozen=True)
class MapQuality:
    """How well a map fits the head that it was made of.

    Attributes:
        coverage: part of the vertices of the model's narrow face, or of all its visible skin, that
            lie on the rig's surface.
        rig_coverage: part of the rig's visible skin near the face that has a counterpart.
        round_trip_mm: mean error of rig -> model -> rig over the rig's covered vertices, for
            motions of the face like those of a jaw, 10 mm.
        expression_mm: how far the head's expression, which should be none, moves the vertices of
            its face (95th percentile), as the model sees it.
    """

    coverage: float
    rig_coverage: float
    round_trip_mm: float
    expression_mm: float


@dataclass(frozen=True, eq=False, repr=False)
class TopologyMap:
    """A fixed correspondence between a rig's topology and a model's.

    The head at rest is `rig` in one topology and `face` in the other, in one frame. A mesh x of the
    rig becomes face + to_model (x - rig), a face y of the model rig + to_rig (y - face).

    Attributes:
        rig: float32 (R, 3) mm, the rig's head at rest in the model's frame.
        rig_triangles: int32 (F', 3).
        face: float32 (V, 3) mm, the same head in the model's topology.
        triangles: int32 (F, 3).
        to_model: (V, R) matrix.
        to_rig: (R, V) matrix.
        rig_covered: (R,) vertices on the model's surface; the others follow these.
        covered: (V,) likewise.
        stable: (R,) vertices that expressions hardly move.
        pose: takes points in mm of the model's frame to the rig's, in its unit.
        quality: of the fit.
        history: commands that made it.
        id: first 12 hex digits of SHA-256 over tensors and config.
        source: path, for messages.

    Example:
        >>> model = load_model("ict-pointnet")
        >>> head = read_mesh("weights/examples/alice_neutral.ply")
        >>> face = Mesh(model.prepare(head), model.triangles, "face", 1.0)
        >>> made = make_map(face, face, model=model, pose=np.eye(4))  # onto itself
        >>> made
        TopologyMap(4601 <-> 4601 vertices, coverage 1.00)
        >>> smile = model.prepare(read_mesh("weights/examples/alice_smile.ply"))
        >>> smiling = made.to_mesh(smile, "smile")  # in the rig's topology, unit and pose
        >>> bool(abs(made.to_face(smiling).vertices - smile).mean() < 0.1)
        True
    """

    rig: NDArray[np.float32]
    rig_triangles: NDArray[np.int32]
    face: NDArray[np.float32]
    triangles: NDArray[np.int32]
    to_model: SparseRows
    to_rig: SparseRows
    rig_covered: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    stable: NDArray[np.bool_]
    pose: RigidTransform
    quality: MapQuality
    history: list[HistoryStep] = field(default_factory=list)
    id: str = ""
    source: str = ""

    def __repr__(self) -> str:
        return (
            f"TopologyMap({len(self.rig)} <-> {len(self.face)} vertices, "
            f"coverage {self.quality.coverage:.2f})"
        )

    @cached_property
    def rig_topology(self) -> str:
        """Topology id of the rig."""
        return topology_id(self.rig_triangles)

    @cached_property
    def topology(self) -> str:
        """Topology id of the model's side."""
        return topology_id(self.triangles)

    @property
    def unit_mm(self) -> float:
        """Millimetres per unit of the rig."""
        return 1 / self.pose.scale

    def fits(self, mesh: Mesh, *, trust_order: bool = False) -> bool:
        """Whether a mesh has the rig's topology; one without triangles by its vertex count."""
        if len(mesh.vertices) != len(self.rig):
            return False
        if trust_order or not len(mesh.triangles):
            return True
        same = np.array_equal(mesh.triangles, self.rig_triangles)  # many times faster than an id
        return same or topology_id(mesh.triangles) == self.rig_topology

    def place(self, mesh: Mesh, *, units: Units = "auto", trust_order: bool = False) -> "PlacedRig":
        """A mesh of the rig in the model's frame, with the way back.

        It is placed as the rig was. Where it stands elsewhere, as another character or a head that
        has turned, it is aligned by its stable vertices, which leaves a jaw where it is.

        Args:
            mesh: R vertices.
            units: unit of a mesh that does not declare one; `auto` takes that of the rig if the
                mesh has the size of the rig in it, else the unit in which it has.
            trust_order: accept other triangles when the vertex count is right.

        Raises:
            InputError: another topology, or the size of the rig in another unit than `units`.
        """
        name = mesh.name or "mesh"
        if not self.fits(mesh, trust_order=trust_order):
            count = len(mesh.vertices)
            advice = "make a map of this topology with fd-map"
            if count == len(self.rig):
                advice = "pass --trust-order if the vertex order is known to be right"
            raise InputError(
                f"{name} has {count} vertices and topology {topology_id(mesh.triangles)}, map "
                f"{self.source or self.id} is of {len(self.rig)} and {self.rig_topology}; {advice}",
                ErrorCode.VERTEX_COUNT if count != len(self.rig) else ErrorCode.TOPOLOGY,
            )
        unit = mesh.unit_mm
        if unit is None:
            unit = unit_of_registered(
                mesh.vertices, self.rig, units=units, declared_mm=self.unit_mm, label=name
            )
        shift = self.pose.translation * self.unit_mm
        points = (mesh.vertices.astype(np.float64) * unit - shift) @ self.pose.rotation
        turned = np.eye(3)
        known, target = points[self.stable], self.rig[self.stable].astype(np.float64)
        if np.median(np.linalg.norm(known - target, axis=1)) > ELSEWHERE_MM:
            alignment = robust_alignment(known, target)
            points, turned = alignment.apply(points), alignment.rotation
        return PlacedRig(self, points, unit, self.pose.rotation @ turned.T)

    def to_face(self, mesh: Mesh, *, units: Units = "auto", trust_order: bool = False) -> Mesh:
        """A mesh of the rig in the model's topology and frame, in mm; arguments as of `place`."""
        return self.place(mesh, units=units, trust_order=trust_order).face(mesh.name)

    def to_mesh(self, face: NDArray[Any], name: str = "") -> Mesh:
        """A face (V, 3) mm of the model in the rig's topology, unit and pose."""
        points = self.rig + self.to_rig.apply(np.asarray(face, np.float64) - self.face)
        return Mesh(self.pose.apply(points), self.rig_triangles, name)


@dataclass(frozen=True, eq=False)
class PlacedRig:
    """A mesh of a rig in the model's frame, and the way back.

    Attributes:
        map: the map.
        points: (R, 3) mm.
        unit_mm: millimetres per unit of the mesh.
        rotation: (3, 3), from the model's frame to that of the mesh.
    """

    map: TopologyMap
    points: NDArray[np.float64]
    unit_mm: float
    rotation: NDArray[np.float64]

    def face(self, name: str = "") -> Mesh:
        """The mesh in the model's topology."""
        moved = self.map.to_model.apply(self.points - self.map.rig)
        return Mesh(self.map.face + moved, self.map.triangles, name, unit_mm=1.0)

    def offsets_in_mesh(self, offsets: NDArray[Any]) -> NDArray[np.float64]:
        """Offsets (V, 3) mm of a face as offsets (R, 3) of the mesh, in its unit and pose."""
        return self.map.to_rig.apply(offsets) @ self.rotation.T / self.unit_mm


@dataclass(frozen=True)
class _Pose:
    rotation: list[Any]
    translation: list[Any]
    scale: float


@dataclass(frozen=True)
class _Config:
    """The config of a map file."""

    pose: _Pose
    quality: MapQuality


@dataclass(frozen=True)
class _Metadata:
    """The metadata of a map file."""

    config: _Config
    rig_topology: str
    topology: str
    history: list[HistoryStep]
    id: str


def write_map(target: str | Path | BinaryIO, made: TopologyMap) -> str:
    """Write a map; returns its id.

    Args:
        target: a path, whose file is written whole or not at all and replaces another one; or a
            binary stream.
        made: the map.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> model = load_model("ict-pointnet")
        >>> head = read_mesh("weights/examples/alice_neutral.ply")
        >>> face = Mesh(model.prepare(head), model.triangles, "face", 1.0)
        >>> made = make_map(face, face, model=model, pose=np.eye(4))  # onto itself
        >>> map_id = write_map("face.map.safetensors", made)
        >>> read_map("face.map.safetensors").id == map_id
        True
    """
    if isinstance(target, str | Path):
        with open_output(str(target), force=True) as stream:
            return write_map(stream, made)
    tensors: dict[str, NDArray[Any]] = {
        "rig": made.rig,
        "rig_triangles": made.rig_triangles,
        "face": made.face,
        "triangles": made.triangles,
        "rig_covered": made.rig_covered.astype(np.uint8),
        "covered": made.covered.astype(np.uint8),
        "stable": made.stable.astype(np.uint8),
    }
    for name, matrix in zip(_MATRICES, (made.to_model, made.to_rig), strict=True):
        tensors |= {f"{name}.{key}": value for key, value in vars(matrix).items()}
    pose = {
        "rotation": made.pose.rotation.tolist(),
        "translation": made.pose.translation.tolist(),
        "scale": made.pose.scale,
    }
    config = {"pose": pose, "quality": asdict(made.quality)}
    map_id = content_id(tensors, config)
    metadata = {
        "config": config,
        "rig_topology": made.rig_topology,
        "topology": made.topology,
        "history": [step.as_json() for step in made.history],
        "id": map_id,
    }
    write_safetensors(target, "map", tensors, metadata)
    return map_id


def read_map(path: str | Path) -> TopologyMap:
    """Read a map between topologies, as fd-map writes it.

    Raises:
        InputError: not a map, or a tensor is missing or of another shape.

    Example:
        >>> model = load_model("ict-pointnet")
        >>> head = read_mesh("weights/examples/alice_neutral.ply")
        >>> face = Mesh(model.prepare(head), model.triangles, "face", 1.0)
        >>> made = make_map(face, face, model=model, pose=np.eye(4))  # onto itself
        >>> map_id = write_map("own.map.safetensors", made)
        >>> read_map("own.map.safetensors")
        TopologyMap(4601 <-> 4601 vertices, coverage 1.00)
    """
    file = read_safetensors(path, "map")
    with naming(path):
        return parse_map(file, shown(path))


def parse_map(file: SafetensorsFile, source: str) -> TopologyMap:
    """The map in a safetensors file; errors do not name the file."""
    metadata = parse_record(_Metadata, file.metadata)
    rows = {name: len(file.tensors[name]) for name in ("rig", "face") if name in file.tensors}
    rig, face = rows.get("rig", 0), rows.get("face", 0)
    tensors = _Tensors(file)
    matrices = [
        tensors.matrix("to_model", face, rig),
        tensors.matrix("to_rig", rig, face),
    ]
    pose = metadata.config.pose
    rotation = _numbers(pose.rotation, (3, 3))
    if not pose.scale > 0 or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6):
        raise InputError(
            "has a pose that is no rotation and scale; it is damaged", ErrorCode.METADATA
        )
    found = TopologyMap(
        rig=tensors.of("rig", (rig, 3), "float32"),
        rig_triangles=tensors.indices("rig_triangles", (-1, 3), rig),
        face=tensors.of("face", (face, 3), "float32"),
        triangles=tensors.indices("triangles", (-1, 3), face),
        to_model=matrices[0],
        to_rig=matrices[1],
        rig_covered=tensors.of("rig_covered", (rig,), "uint8").astype(np.bool_),
        covered=tensors.of("covered", (face,), "uint8").astype(np.bool_),
        stable=tensors.of("stable", (rig,), "uint8").astype(np.bool_),
        pose=RigidTransform(rotation, _numbers(pose.translation, (3,)), pose.scale),
        quality=metadata.config.quality,
        history=metadata.history,
        id=metadata.id,
        source=source,
    )
    for name, own, stored in (
        ("rig_triangles", found.rig_topology, metadata.rig_topology),
        ("triangles", found.topology, metadata.topology),
    ):
        if own != stored:
            raise InputError(
                f"has {name} of topology {own} but says {stored!r}; the file is damaged",
                ErrorCode.DAMAGED,
            )
    return found


class _Tensors:
    """The tensors of a map, checked."""

    def __init__(self, file: SafetensorsFile) -> None:
        self._tensors = file.tensors
        for name in not_finite(file.tensors):
            raise InputError(f"tensor {name!r} is not finite; make it again", ErrorCode.NOT_FINITE)

    def of(self, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A tensor of this shape, -1 = any length."""
        array = self._tensors.get(name)
        found = () if array is None else array.shape
        wanted = tuple(m if n < 0 else n for n, m in zip(shape, found, strict=False))
        if array is None or found != wanted or array.dtype != dtype or not array.size:
            raise InputError(
                f"has no tensor {name!r} of shape {shape} of {dtype}; make it again with fd-map",
                ErrorCode.TENSOR,
            )
        return array

    def indices(self, name: str, shape: tuple[int, ...], limit: int) -> NDArray[np.int32]:
        """A tensor of numbers below a limit."""
        array = self.of(name, shape, "int32")
        if array.min() < 0 or array.max() >= limit:
            raise InputError(
                f"{name!r} names vertices outside of the {limit} there are", ErrorCode.VERTEX_INDEX
            )
        return array

    def matrix(self, name: str, rows: int, columns: int) -> SparseRows:
        """A matrix (rows, columns)."""
        numbers = self.indices(f"{name}.columns", (-1,), columns)
        starts = self.indices(f"{name}.starts", (rows + 1,), len(numbers) + 1)
        if starts[0] != 0 or starts[-1] != len(numbers) or (np.diff(starts) < 0).any():
            raise InputError(f"tensor '{name}.starts' is damaged", ErrorCode.TENSOR)
        return SparseRows(starts, numbers, self.of(f"{name}.values", numbers.shape, "float32"))


def _numbers(values: list[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers of the metadata."""
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError("garbles its pose in its metadata; make it again", ErrorCode.METADATA)
    return array
