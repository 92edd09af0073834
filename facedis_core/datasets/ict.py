"""ICT-FaceKit of USC (MIT licence), a folder FaceXModel: the source of the open benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import Labels
from facedis_core.data.preparation import Preparation
from facedis_core.data.regions import FACE, ICT_NARROW_FACE, ICT_SKIN, ICT_TOPOLOGY
from facedis_core.datasets.captured_expressions import read_captured
from facedis_core.datasets.ict_synthesis import (
    IDENTITY_MODES,
    PLAIN,
    ExpressionTable,
    IctFaces,
    Variation,
    expression_table,
    find_variation,
)
from facedis_core.datasets.protocols import People, make_split
from facedis_core.datasets.source import FaceBlock, LabelledRows, ListingReport, Warn
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.geometry.deformation_transfer import (
    DeformationTransfer,
    displacement_gradients,
)
from facedis_core.geometry.simplification import VertexMap, vertex_map
from facedis_core.io.csv_text import read_text
from facedis_core.io.paths import below, is_file
from facedis_core.io.streams import file_id
from facedis_core.mesh.mesh import Mesh, read_mesh, topology_id

GENERIC: Final = "generic_neutral_mesh.obj"
HOME: Final = "https://github.com/ICT-VGL/ICT-FaceKit"
UNIT_MM: Final = 10.0
NARROW_FACES: Final = 9000
RESTING_MM: Final = 0.01  # vertices that no shape moves farther are held in place
MAP_FILE: Final = "ict_map.safetensors"


@dataclass(frozen=True, eq=False)
class IctReader:
    """Makes the faces of a set, a subject at a time."""

    generator: IctFaces
    seed: int
    variation: Variation = PLAIN

    def read(self, rows: Sequence[int]) -> FaceBlock:
        """Faces and true neutral of the one subject whose rows these are."""
        count = len(self.generator.table.expressions)
        subjects = {row // count for row in rows}
        if len(subjects) != 1:
            raise ValueError(f"a block is of one subject, these rows are of {len(subjects)}")
        subject = subjects.pop()
        return FaceBlock(
            self.generator.faces(self.seed, subject, [row % count for row in rows], self.variation),
            self.generator.neutral_face(self.seed, subject),
        )


@dataclass(frozen=True, eq=False)
class IctSource:
    """A set of synthetic people; nothing but the generic mesh has been read."""

    root: str | Path
    generic: Mesh
    seed: int
    labels: Labels
    protocol: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    variation: Variation = PLAIN
    table: ExpressionTable = field(default_factory=expression_table)
    simplify: int | None = None
    findings: ListingReport = ListingReport()  # noqa: RUF009 - frozen
    measures: ClassVar[int] = 0
    region: ClassVar[str | None] = FACE

    @property
    def is_neutral(self) -> NDArray[np.bool_]:
        """(N,) faces of level 0."""
        return np.asarray(self.labels.level) == 0

    def preparation(
        self, rows: NDArray[np.intp], warn: Warn, *, keep_going: bool = False
    ) -> Preparation:
        """The whole head; with `simplify` the narrow face, 9000 triangles by the shipped map.

        Raises InputError where the generic mesh is not ICT-FaceKit's, or as of `vertex_map`.
        """
        found = topology_id(self.generic.triangles)
        if found != ICT_TOPOLOGY:
            raise InputError(
                f"{below(self.root, GENERIC)} has {len(self.generic.vertices)} vertices and "
                f"topology {found}, expected 26719 and {ICT_TOPOLOGY}, as in the light model of "
                f"{HOME}",
                ErrorCode.TOPOLOGY,
            )
        if not self.simplify:
            chosen = np.arange(len(self.generic.vertices), dtype=np.int32)
            triangles = self.generic.triangles
        elif self.simplify == NARROW_FACES:
            chosen, triangles = load_ict_map()
        else:
            chosen, triangles = build_ict_map(self.generic, self.simplify)
        return Preparation(
            triangles=triangles,
            vertex_index=chosen,
            raw_vertices=len(self.generic.vertices),
            raw_topology=found,
            raw_unit_mm=UNIT_MM,
        )

    def reader(
        self,
        preparation: Preparation,
        rows: NDArray[np.intp],
        mean_face: NDArray[np.float32] | None = None,
    ) -> IctReader:
        """Reads all shapes; InputError where one is missing or `preparation` is not for them."""
        raw = topology_id(self.generic.triangles)
        if preparation.raw_topology != raw:
            raise InputError(
                f"the map to follow is for raw meshes of topology {preparation.raw_topology}, "
                f"{GENERIC} has {raw}; leave out --like or give a set or model of this data",
                ErrorCode.TOPOLOGY,
            )
        return IctReader(
            load_ict_faces(self.root, self.generic, preparation.vertex_index, self.table),
            self.seed,
            self.variation,
        )

    def blocks(self) -> Sequence[Sequence[int]]:
        """The rows of one subject after the other."""
        count = len(self.table.expressions)
        return [range(k, k + count) for k in range(0, len(self.labels.names), count)]

    def label_rows(self, rows: NDArray[np.intp], measured: NDArray[np.float64]) -> LabelledRows:
        """Everything stays; the true neutrals, without noise, come with the blocks."""
        return LabelledRows(rows, self.labels.subset(rows), self.is_neutral[rows])


def open_ict(
    root: str | Path,
    *,
    subjects: int = 200,
    protocol: str | None = None,
    validation: float | None = None,
    seed: int = 0,
    variation: str | None = None,
    captured: str | Path | None = None,
    simplify: int | None = None,
) -> IctSource:
    """The open benchmark: `subjects` synthetic people, each with the 20 expressions of FaceScape.

    Args:
        root: the folder FaceXModel.
        subjects: number of people.
        protocol: as in `make_split`.
        validation: likewise.
        seed: of people, faces and split.
        variation: name in VARIATIONS: the same people, shown in another way.
        captured: CSV of ARKit weights, whose frames take the place of the expressions.
        simplify: approximate number of triangles of the narrow face; 0 or None = the whole head.

    Raises:
        UsageError: no people, no such variation, or as of `make_split`.
        InputError: `root` is not the folder FaceXModel of ICT-FaceKit, or as of `read_captured`.
    """
    if subjects < 1:
        raise UsageError(f"--subjects is {subjects}, expected at least 1", ErrorCode.OPTION_VALUE)
    table, inputs = expression_table(), {}
    notes: list[str] = []
    if captured is not None:
        content = read_text(str(captured))
        table = read_captured(content, str(captured), notes.append)
        inputs = {"captured": file_id(content)}
    expressions = list(table.expressions)
    people = [f"{number:04d}" for number in range(subjects)]
    expression = np.tile(np.arange(len(expressions), dtype=np.int32), subjects)
    is_neutral = ~table.apexes.any(axis=1)
    shown = People(
        names=[f"{person}_{shown}" for person in people for shown in expressions],
        subjects=people,
        subject=np.repeat(np.arange(subjects, dtype=np.int32), len(expressions)),
    )
    split = make_split(protocol, shown, validation=validation, seed=seed)
    labels = Labels(
        names=shown.names,
        subjects=shown.subjects,
        expressions=expressions,
        subject=shown.subject,
        expression=expression,
        level=np.where(is_neutral, 0.0, 1.0).astype(np.float32)[expression],
        split=split.split,
    )
    return IctSource(
        root,
        read_generic(root),
        seed,
        labels,
        split.text,
        {**split.inputs, **inputs},
        notes,
        variation=find_variation(variation),
        table=table,
        simplify=simplify,
    )


def read_generic(root: str | Path) -> Mesh:
    """The generic neutral, in centimetres as in the file; InputError where `root` has none."""
    path = below(root, GENERIC)
    if not is_file(path):
        raise InputError(
            f"{root} has no {GENERIC}; expected the folder FaceXModel of ICT-FaceKit, see {HOME}",
            ErrorCode.LAYOUT,
        )
    return read_mesh(path)


def load_ict_faces(
    root: str | Path,
    generic: Mesh,
    chosen: NDArray[np.integer[Any]] | None = None,
    table: ExpressionTable | None = None,
) -> IctFaces:
    """Read the 155 shapes for faces on the raw vertices `chosen` (V,), or on all of them.

    Raises InputError where a shape is missing, has another vertex count, or all vertices of the
    skin move.
    """
    raw_vertices = len(generic.vertices)
    if chosen is None:
        chosen = np.arange(raw_vertices)
    table = table or expression_table()
    skin = min(ICT_SKIN, raw_vertices)
    beyond = np.unique(chosen[chosen >= skin])
    frame = np.concatenate([np.arange(skin), beyond])
    scale = np.float32(UNIT_MM)

    def offsets(names: Sequence[str]) -> NDArray[np.float32]:
        stack = np.empty((len(names), len(frame), 3), np.float32)
        for offset, name in zip(stack, names, strict=True):
            offset[...] = scale * _read_shape(below(root, f"{name}.obj"), raw_vertices)[frame]
            offset -= scale * generic.vertices[frame]
        return stack

    neutral = scale * generic.vertices[frame]
    shapes = offsets(table.shapes)
    triangles = generic.triangles[(generic.triangles < skin).all(axis=1)]
    fixed = ~(np.linalg.norm(shapes[:, :skin], axis=2) > RESTING_MM).any(axis=0)
    if not fixed.any():
        raise InputError(
            f"the expression shapes in {root} move every vertex, expected a head at rest; "
            f"copy the folder FaceXModel whole, see {HOME}",
            ErrorCode.LAYOUT,
        )
    return IctFaces(
        raw_vertices=raw_vertices,
        chosen=np.asarray(chosen, np.int32),
        in_frame=np.searchsorted(frame, chosen),
        neutral=neutral,
        modes=offsets([f"identity{k:03d}" for k in range(IDENTITY_MODES)]),
        transfer=DeformationTransfer(triangles, fixed),
        gradients=displacement_gradients(neutral[:skin], triangles, shapes[:, :skin]),
        shapes=shapes[:, skin:].copy(),  # not a view, which would keep all
        table=table,
    )


def _read_shape(path: str, raw_vertices: int) -> NDArray[np.float32]:
    if not is_file(path):
        raise InputError(
            f"{path} is missing; copy the folder FaceXModel whole, see {HOME}",
            ErrorCode.FILE_MISSING,
        )
    vertices = read_mesh(path).vertices
    if len(vertices) != raw_vertices:
        raise InputError(
            f"{path} has {len(vertices)} vertices, {GENERIC} has {raw_vertices}; "
            f"copy the folder FaceXModel whole, see {HOME}",
            ErrorCode.VERTEX_COUNT,
        )
    return vertices


def build_ict_map(generic: Mesh, faces: int = NARROW_FACES) -> VertexMap:
    """Compute the vertex map of the narrow face; `generic` in centimetres.

    `ict_map.safetensors` is its result with fast_simplification 0.2.0, written by
    safetensors.numpy: tensors `vertex_index` and `triangles`. Shipped, because another version may
    choose differently. Errors as of `vertex_map`.
    """
    narrow = generic.triangles[(generic.triangles < ICT_NARROW_FACE).all(axis=1)]
    return vertex_map(generic.vertices * np.float32(UNIT_MM), narrow, faces)


def load_ict_map() -> VertexMap:
    """The choice of vertices of the narrow face that ships with the project."""
    from safetensors.numpy import load

    data = resources.files("facedis_core.datasets").joinpath(MAP_FILE).read_bytes()
    tensors = load(data)
    return VertexMap(tensors["vertex_index"], tensors["triangles"])
