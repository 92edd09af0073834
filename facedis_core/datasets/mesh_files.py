"""Data sets of registered mesh files: reading, checking and preparing one file after another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import Labels
from facedis_core.data.preparation import ALIGNMENTS, Preparation
from facedis_core.data.units import UNITS_MM, Units, implausible_size, unit_by_size
from facedis_core.datasets.reference_mesh import (
    LARGEST_SIZE_RATIO,
    ReferenceMesh,
    find_reference_mesh,
)
from facedis_core.datasets.source import FaceBlock, LabelledRows, ListingReport, Warn
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.geometry.alignment import rigid_alignment
from facedis_core.geometry.simplification import vertex_map
from facedis_core.io.paths import below
from facedis_core.mesh.mesh import Mesh, topology_id
from facedis_core.pipeline.inputs import meshes_ahead

# Files that a worker process reads at once.
FILES_PER_BLOCK: Final = 16
# Largest plausible mean distance of two aligned faces, relative to their extent.
LARGEST_DIFFERENCE: Final = 0.15


@dataclass(frozen=True, eq=False)
class MeshFileReader:
    """Reads and prepares mesh files of one topology.

    Attributes:
        files: (N,) paths or URLs, in the order of the labels.
        vertex_counts: accepted vertex count -> what has it, for the error message.
        unit_mm: mm per unit of files that do not declare one; None = as `preparation` says.
        mean_face: (V, 3) mm of the `--like` file.
        advice: next step for a mesh of another topology, for the error message.
        model_face: (V, 3) mm, a face that all others must resemble; None = not checked.
        bare: whether meshes without triangles are accepted.
    """

    files: Sequence[str]
    preparation: Preparation
    vertex_counts: Mapping[int, str]
    unit_mm: float | None
    mean_face: NDArray[np.float32] | None
    advice: str
    model_face: NDArray[np.float32] | None = None
    bare: bool = True
    measures: ClassVar[int] = 0

    def read(self, rows: Sequence[int]) -> FaceBlock:
        """Read and prepare the faces (n, V, 3) mm of `rows`."""
        faces = np.full((len(rows), len(self.preparation.vertex_index), 3), np.nan, np.float32)
        measured = np.full((len(rows), self.measures), np.nan)
        failures: dict[int, InputError] = {}
        loading = meshes_ahead([self.files[row] for row in rows])
        for k, (row, read) in enumerate(zip(rows, loading, strict=True)):
            try:
                mesh = self.checked(read(), self.files[row])
                measured[k] = self.measure(row, mesh)
                face = self._prepare(mesh)
                if self.model_face is not None:
                    check_resemblance(face, self.model_face, self.files[row])
                faces[k] = face
            except InputError as error:
                failures[row] = error
        return FaceBlock(faces, measured=measured, failures=failures)

    def measure(self, row: int, mesh: Mesh) -> tuple[float, ...]:
        """Numbers on a raw mesh from which labels are derived, `measures` of them."""
        return ()

    def checked(self, mesh: Mesh, path: str) -> Mesh:
        """The raw mesh of a file, in mm if the unit is known.

        Raises InputError if it is of another topology.
        """
        if len(mesh.vertices) not in self.vertex_counts:
            expected = " or ".join(f"{n} as {who}" for n, who in self.vertex_counts.items())
            raise InputError(
                f"{path} has {len(mesh.vertices)} vertices, expected {expected}; {self.advice}",
                ErrorCode.VERTEX_COUNT,
            )
        if not len(mesh.triangles) and not self.bare:
            raise InputError(
                f"{path} has no triangles, so it may be cut short; {self.advice}",
                ErrorCode.NO_TRIANGLES,
            )
        known = (self.preparation.raw_topology, self.preparation.topology)
        if len(mesh.triangles) and topology_id(mesh.triangles) not in known:
            raise InputError(
                f"{path} has other triangles than {self.vertex_counts[len(mesh.vertices)]}; "
                f"{self.advice}",
                ErrorCode.TOPOLOGY,
            )
        unit = self.unit_mm if mesh.unit_mm is None else None
        vertices = mesh.vertices if unit is None else mesh.vertices * np.float32(unit)
        # The path is the name so that later errors name the file.
        return Mesh(vertices, mesh.triangles, path, mesh.unit_mm if unit is None else 1.0)

    def _prepare(self, mesh: Mesh) -> NDArray[np.float32]:
        # The set is aligned once it is complete; here the mean face only decides the unit.
        return self.preparation.apply(mesh, self.mean_face, align="none")


@dataclass(frozen=True, eq=False)
class MeshFileSource:
    """A data set of registered mesh files; none has been read.

    Attributes:
        files: (N,) paths below the root, in the order of the labels.
        is_neutral: bool (N,), neutral faces; their mean is the subject's neutral.
        candidates: rows that may be the reference mesh, best first.
        expected_vertices: vertex count of this data set; None = any.
        units: unit of files that do not declare one; `auto` = `usual_units` if a face has the size
            of one in it, else by its size; with `--like` by the size of its mean face.
        usual_units: unit of this data set.
        simplify: approximate number of triangles to keep; 0 keeps all, None = `usual_faces`.
        usual_faces: default of `simplify` for meshes with more triangles; None keeps all.
        align: `none`, `rigid`, `similarity`, or `stable` by `stable_vertices`.
        stable_vertices: vertices of the raw mesh that expressions hardly move.
        advice: next step for a mesh of another topology, for the error message.
        alike: whether a mesh that does not resemble the others is an error; else `label_rows`
            drops it as an outlier.
    """

    root: str | Path
    files: Sequence[str]
    labels: Labels
    protocol: str
    is_neutral: NDArray[np.bool_]
    candidates: Sequence[int]
    expected_vertices: int | None = None
    units: Units = "auto"
    usual_units: Units = "mm"
    simplify: int | None = None
    usual_faces: int | None = None
    align: str = "none"
    stable_vertices: tuple[int, ...] = ()
    advice: str = "all meshes of a set must be registered to one topology"
    alike: bool = True
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    findings: ListingReport = ListingReport()  # noqa: RUF009 - frozen
    _found: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    measures: ClassVar[int] = 0
    region: ClassVar[str | None] = None

    def preparation(
        self, rows: NDArray[np.intp], warn: Warn, *, keep_going: bool = False
    ) -> Preparation:
        """Vertex map (all vertices, or simplified), unit and alignment, from the reference mesh."""
        wanted = set(rows.tolist())
        reference = find_reference_mesh(
            [below(self.root, self.files[row]) for row in self.candidates if row in wanted],
            self.expected_vertices,
            advice=self.advice,
            keep_going=keep_going,
            warn=warn,
        )
        vertices, triangles = reference.mesh.vertices, reference.mesh.triangles
        unit = self._unit_mm(reference, warn)
        self._found["face"] = vertices * np.float32(unit)
        chosen, kept = np.arange(len(vertices), dtype=np.int32), triangles
        target = self.simplify
        if target is None and self.usual_faces and self.usual_faces < len(triangles):
            target = self.usual_faces
        if target:
            chosen, kept = vertex_map(vertices * np.float32(unit), triangles, target)
        return Preparation(
            triangles=kept,
            vertex_index=chosen,
            raw_vertices=len(vertices),
            raw_topology=topology_id(triangles),
            raw_unit_mm=unit,
            alignment="rigid" if self.align == "stable" else self.align,
            stable_vertices=self._stable(reference, chosen) if self.align == "stable" else (),
        )

    def _unit_mm(self, reference: ReferenceMesh, warn: Warn) -> float:
        if reference.mesh.unit_mm is not None:
            return 1.0
        label = reference.path
        if self.units != "auto":
            if warning := implausible_size(reference.extent, self.units, label):
                warn(warning)
            return UNITS_MM[self.units]
        if not implausible_size(reference.extent, self.usual_units, label):
            return UNITS_MM[self.usual_units]
        units = unit_by_size(reference.extent, label)
        warn(f"meshes are in {units} by their size: {label} is {reference.extent:.3g} units high")
        return UNITS_MM[units]

    def _stable(self, reference: ReferenceMesh, chosen: NDArray[np.int32]) -> tuple[int, ...]:
        """The stable vertices, as indices into the kept vertices."""
        count = len(reference.mesh.vertices)
        if not self.stable_vertices or count != self.expected_vertices:
            raise InputError(
                f"{reference.path} has {count} vertices, the stable vertices are known for "
                f"{self.expected_vertices} only; pass --align rigid or --align none",
                ErrorCode.VERTEX_COUNT,
            )
        place = {int(raw): k for k, raw in enumerate(chosen)}
        lost = [vertex for vertex in self.stable_vertices if vertex not in place]
        if lost:
            raise UsageError(
                f"--simplify drops vertex {lost[0]}, which --align stable needs; pass "
                "--align rigid, or leave out --simplify",
                ErrorCode.OPTION_CONFLICT,
            )
        return tuple(place[vertex] for vertex in self.stable_vertices)

    def reader(
        self,
        preparation: Preparation,
        rows: NDArray[np.intp],
        mean_face: NDArray[np.float32] | None = None,
    ) -> MeshFileReader:
        """The reader of all files, with this data set's preparation or that of `--like`."""
        raw = "those of --like" if mean_face is not None else "the others"
        counts = {preparation.raw_vertices: raw}
        counts.setdefault(len(preparation.vertex_index), "the prepared face")
        unit = None if self.units == "auto" else UNITS_MM[self.units]
        face = self._found.get("face")  # not with --like, which checks the distance itself
        model_face = face[preparation.vertex_index] if self.alike and face is not None else None
        bare = self.expected_vertices is None
        return MeshFileReader(
            self.paths, preparation, counts, unit, mean_face, self.advice, model_face, bare
        )

    @property
    def paths(self) -> list[str]:
        """The paths or URLs of all files."""
        return [below(self.root, file) for file in self.files]

    def blocks(self) -> Sequence[Sequence[int]]:
        """Rows in order, FILES_PER_BLOCK at once."""
        count = len(self.files)
        return [range(k, min(k + FILES_PER_BLOCK, count)) for k in range(0, count, FILES_PER_BLOCK)]

    def label_rows(self, rows: NDArray[np.intp], measured: NDArray[np.float64]) -> LabelledRows:
        """Keep all faces that could be read."""
        return LabelledRows(rows, self.labels.subset(rows), self.is_neutral[rows])


def check_resemblance(face: NDArray[np.float32], model: NDArray[np.float32], label: str) -> None:
    """Raise InputError if a face (V, 3) differs from the model in size or vertex order.

    People and expressions differ by some hundredths of the size of a face; shuffled vertices and
    other objects by a quarter and more.
    """
    size, usual = (float(np.ptp(part, axis=0).max()) for part in (face, model))
    if not usual / LARGEST_SIZE_RATIO <= size <= usual * LARGEST_SIZE_RATIO:
        raise InputError(
            f"{label} is {size:.3g} mm high, the others about {usual:.3g}; check the file and "
            "its unit",
            ErrorCode.OUTLIER,
        )
    moved = rigid_alignment(face, model).apply(face)
    distance = float(np.linalg.norm(moved - model, axis=1).mean())
    if distance > LARGEST_DIFFERENCE * usual:
        raise InputError(
            f"{label} is {distance:.3g} mm from the others on average after alignment; check the "
            "file and its vertex order",
            ErrorCode.OUTLIER,
        )


def check_align(align: str | None, *, stable: bool = False) -> None:
    """Raise UsageError for an unknown alignment, or `stable` without stable vertices."""
    known = (*ALIGNMENTS, "stable") if stable else ALIGNMENTS
    if align is not None and align not in known:
        raise UsageError(
            f"--align is {align!r}, expected one of {', '.join(known)}; which vertices are stable "
            "is known for bu3dfe only",
            ErrorCode.OPTION_VALUE,
        )
