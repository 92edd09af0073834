"""Comparison of predicted meshes, from any method, with true meshes of the same names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facedis_core.data.preparation import Preparation
from facedis_core.data.regions import find_region
from facedis_core.data.units import BatchUnits, Units, check_one_size
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.evaluation import (
    Evaluation,
    Gallery,
    OrderedMap,
    evaluate_predictions,
    map_in_one_process,
)
from facedis_core.evaluate.expression_faces import ExpressionLabels
from facedis_core.evaluate.face_labels import FaceLabel, read_labels
from facedis_core.evaluate.prediction import PredictedFaces, Prediction, align_faces
from facedis_core.io.paths import is_file, is_folder
from facedis_core.io.streams import naming, open_input
from facedis_core.io.text import shown
from facedis_core.mesh.mesh import Mesh, mesh_files, read_mesh, read_meshes, topology_id
from facedis_core.mesh.vertex_checks import check_extent

Meshes = Mapping[str, Callable[[], Mesh]]  # name -> function that reads the mesh


@dataclass(frozen=True, eq=False)
class MeshComparison:
    """The evaluation of predicted meshes.

    Attributes:
        evaluation: its rows are the meshes.
        names: name of each mesh.
        labels: label of each mesh; empty = not labelled.
        expressions: names of the expressions, ascending; empty = not labelled.
        expression: (n,) index of each mesh into `expressions`; 0 where they are not labelled.
        region: (V,) bool, the vertices that were measured; None = all.
    """

    evaluation: Evaluation
    names: list[str]
    labels: list[FaceLabel]
    expressions: list[str]
    expression: np.ndarray
    region: np.ndarray | None


def compare_meshes(
    truth: str,
    predicted: str | None,
    labels: str | None = None,
    *,
    identity: str | None = None,
    neutral: str | None = None,
    units: Units = "auto",
    region: str | None = None,
    align: bool = False,
    on_match: Callable[[int, np.ndarray | None], object] = lambda pairs, region: None,
    warn: Callable[[str], object] = lambda line: None,
    progress: Callable[[int], None] | None = None,
    ordered_map: Callable[..., OrderedMap] = lambda *facts: map_in_one_process,
) -> MeshComparison:
    """E_rec of reconstructions; with labels every metric that needs only meshes.

    With labels E_dis is that of the identity faces of a subject, AVD_neu that to the subject's true
    neutral mesh, recognition is by vertex distance; with reconstructions and identity faces E_exp
    is measured too. Without identity faces the predictions count as both.

    Args:
        truth: a folder, a mesh, or PLY after PLY in a file or on a pipe (`-`); meshes that are not
            in a folder are kept in memory.
        predicted: reconstructions likewise, with the same names unless all sides are one mesh;
            None = there are identity faces only.
        labels: CSV file with the columns name, subject, expression.
        identity: identity faces likewise; None = the predictions, where there are labels.
        neutral: name of the neutral expression, which must occur; None = `neutral`, which may.
        units: unit of meshes that do not declare one; `auto` = by the size of the first true and
            of the first predicted one.
        region: vertices to measure, as of `find_region`; None = all.
        align: align predictions rigidly to the truth first.
        on_match: called with the number of pairs and the region (V,) before they are compared; may
            raise.
        warn: called with the warnings of the first true mesh, whose topology all have.
        progress: called with the number of newly compared meshes.
        ordered_map: called with names, labels and options of the meshes; gives what divides their
            comparison, as of `evaluate_predictions`.

    Raises:
        InputError: unreadable input, a mesh without a partner or a label, meshes that do not fit.
        UsageError: an unknown region.
    """
    pairs = _MeshPairs.matched(truth, predicted, identity, units)
    mask = None
    if region is not None:
        triangles, count = pairs.reference.triangles, len(pairs.reference.vertices)
        vertices = np.arange(count, dtype=np.int32)
        same = Preparation(triangles, vertices, count, topology_id(triangles), 1.0)
        mask = find_region(region, same)
    on_match(len(pairs.names), mask)
    for line in pairs.reference.warnings:
        warn(line)
    if labels is None:
        subject = np.zeros(len(pairs.names), int)  # E_rec does not depend on subjects
        rows = np.arange(len(subject))
        evaluation = evaluate_predictions(
            pairs.predicted_faces,
            subject,
            rows,
            region=mask,
            align=align,
            progress=progress,
            ordered_map=ordered_map(pairs.names, units),
        )
        return MeshComparison(evaluation, pairs.names, [], [], subject, mask)
    known = read_labels(labels, frozenset(pairs.names))
    missing = [name for name in pairs.names if name not in known]
    if missing:
        raise InputError(
            f"{labels} has no row for {missing[0]!r}, {len(missing)} of {len(pairs.names)} meshes; "
            "a name is the path below the folder without suffix",
            ErrorCode.LABEL_MISSING,
        )
    chosen = [known[name] for name in pairs.names]
    if neutral is not None and all(label.expression != neutral for label in chosen):
        raise InputError(
            f"no mesh has the expression {neutral!r}, given as neutral, in {labels}",
            ErrorCode.NEUTRAL_MISSING,
        )
    shown, expression = np.unique([label.expression for label in chosen], return_inverse=True)
    evaluation = _evaluate_labelled(
        pairs,
        chosen,
        expression,
        neutral or "neutral",
        region=mask,
        align=align,
        progress=progress,
        ordered_map=ordered_map(pairs.names, units, chosen, neutral),
    )
    return MeshComparison(evaluation, pairs.names, chosen, shown.tolist(), expression, mask)


def find_meshes(source: str) -> Meshes:
    """Meshes by name: of a folder, read when needed; of anything else, kept in memory.

    Raises:
        InputError: no mesh, unreadable, or two meshes of one name.
    """
    found: dict[str, Callable[[], Mesh]] = {}

    def add(name: str, read: Callable[[], Mesh]) -> None:
        if name in found:
            raise InputError(
                f"{shown(source)} holds two meshes named {name!r}; rename one",
                ErrorCode.NAME_DUPLICATE,
            )
        found[name] = read

    path = Path(source)
    if is_folder(source):
        for file in mesh_files(path):
            add(file.relative_to(path).with_suffix("").as_posix(), partial(_read, file))
        return found
    with open_input(source) as stream:
        several = not is_file(path) or path.suffix.lower() == ".ply"
        for mesh in read_meshes(stream, source) if several else [read_mesh(path)]:
            add(mesh.name, partial(_near, mesh, source))
    return found


def _read(file: Path) -> Mesh:
    return _near(read_mesh(file), str(file))


def _near(mesh: Mesh, source: str) -> Mesh:
    with naming(source):
        check_extent(mesh.vertices)
    return mesh


def _evaluate_labelled(
    pairs: "_MeshPairs",
    labels: list[FaceLabel],
    expression: np.ndarray,
    neutral: str,
    *,
    region: np.ndarray | None,
    align: bool,
    progress: Callable[[int], None] | None,
    ordered_map: OrderedMap,
) -> Evaluation:
    """Every metric; the first neutral of each subject is its true neutral and in the gallery."""
    people, subject = np.unique([label.subject for label in labels], return_inverse=True)
    neutrals = np.full((len(people), *pairs.reference.vertices.shape), np.nan, np.float32)
    gallery_rows: dict[int, int] = {}  # subject -> row of its first neutral
    predictions = []
    for row, label in enumerate(labels):
        person = int(subject[row])
        if label.expression == neutral and person not in gallery_rows:
            truth, (_, identity, *_) = pairs.labelled_faces(np.array([row]))
            assert identity is not None  # labelled samples have one
            neutrals[person] = truth[0]
            gallery_rows[person] = row
            identity = align_faces(identity, truth, region) if align else identity
            predictions.append(identity if region is None else identity[:, region])
    gallery = None
    if gallery_rows:
        faces = Prediction(identity=np.concatenate(predictions))
        gallery = Gallery(np.array([*gallery_rows]), np.array([*gallery_rows.values()]), faces)
    return evaluate_predictions(
        pairs.labelled_faces,
        subject,
        np.arange(len(labels)),
        neutrals=neutrals,
        expressions=ExpressionLabels(expression, np.zeros(len(labels))),
        gallery=gallery,
        region=region,
        align=align,
        progress=progress,
        ordered_map=ordered_map,
    )


class _Side(NamedTuple):
    """Meshes of one kind in the order of the pairs: what they are, readers, and their units."""

    kind: str
    read: list[Callable[[], Mesh]]
    units: BatchUnits


@dataclass(frozen=True, eq=False)
class _MeshPairs:
    """True and predicted meshes in one order.

    Attributes:
        names: name of each pair.
        truth: the true meshes.
        predicted: reconstructions; None = there are none.
        identity: identity faces; None = there are none.
        reference: the first true mesh, whose topology all meshes must have.
    """

    names: list[str]
    truth: _Side
    predicted: _Side | None
    identity: _Side | None
    reference: Mesh

    @classmethod
    def matched(
        cls, truth: str, predicted: str | None, identity: str | None, units: Units
    ) -> "_MeshPairs":
        """Pairs of true and predicted meshes of one name, or of the only mesh on each side.

        Raises:
            InputError: a mesh has no partner; to leave it out would hide missing predictions.
        """
        true = find_meshes(truth)
        names, true_units = list(true), BatchUnits(units)
        first = true_units.in_mm(next(iter(true.values()))())

        def side(source: str, kind: str) -> _Side:
            meshes = find_meshes(source)
            if len(true) == len(meshes) == 1:
                return _Side(kind, list(meshes.values()), BatchUnits(units))
            for some, label, others, other_label in (
                (true, truth, meshes, source),
                (meshes, source, true, truth),
            ):
                alone = [name for name in some if name not in others]
                if alone:
                    raise InputError(
                        f"{alone[0]!r} of {label} is not in {other_label}, {len(alone)} of "
                        f"{len(some)} meshes have no partner; a name is the path below the folder "
                        "without suffix",
                        ErrorCode.PARTNER_MISSING,
                    )
            return _Side(kind, [meshes[name] for name in names], BatchUnits(units))

        return cls(
            names,
            _Side("true", list(true.values()), true_units),
            None if predicted is None else side(predicted, "predicted"),
            None if identity is None else side(identity, "predicted identity"),
            first,
        )

    def predicted_faces(self, rows: np.ndarray) -> PredictedFaces:
        """True faces of rows (B,) with reconstructions and identity faces, as far as given.

        Raises:
            InputError: unreadable, of another topology than the reference, or of another size.
        """
        true = self._faces(self.truth, rows)
        full, identity = (
            None if side is None else self._faces(side, rows, true)
            for side in (self.predicted, self.identity)
        )
        return PredictedFaces(true, Prediction(full, identity))

    def labelled_faces(self, rows: np.ndarray) -> PredictedFaces:
        """The same; without identity faces the reconstructions count as these too."""
        predicted = self.predicted_faces(rows)
        full, identity, *_ = predicted.prediction
        return PredictedFaces(
            predicted.truth, Prediction(full, full if identity is None else identity)
        )

    def _faces(self, side: _Side, rows: np.ndarray, true: np.ndarray | None = None) -> np.ndarray:
        """Faces of rows, (B, V, 3) mm, each of the size of the true one."""
        faces = np.stack([self._vertices(side, row) for row in rows])
        for row, face, other in zip(rows, faces, () if true is None else true, strict=False):
            name = self.names[row]
            check_one_size(face, other, f"the {side.kind} mesh of {name!r}", "the true one")
        return faces

    def _vertices(self, side: _Side, row: int) -> np.ndarray:
        mesh, known = side.read[row](), self.reference
        label = f"the {side.kind} mesh of {self.names[row]!r}"
        if len(mesh.vertices) != len(known.vertices):
            raise InputError(
                f"{label} has {len(mesh.vertices)} vertices, expected {len(known.vertices)} as the "
                "first true one; only meshes of one topology compare",
                ErrorCode.VERTEX_COUNT,
            )
        both = len(mesh.triangles) and len(known.triangles)
        if both and not np.array_equal(mesh.triangles, known.triangles):
            raise InputError(
                f"{label} has topology {topology_id(mesh.triangles)}, expected "
                f"{topology_id(known.triangles)} as the first true one; only meshes of one "
                "topology compare",
                ErrorCode.TOPOLOGY,
            )
        return side.units.in_mm(mesh, label).vertices
