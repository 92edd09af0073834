"""Comparison of predicted meshes, from any method, with true meshes of the same names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from facedis_core.data.units import BatchUnits, Units, check_one_size
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.evaluation import (
    Evaluation,
    Gallery,
    Prediction,
    Sample,
    align_faces,
    evaluate,
)
from facedis_core.evaluate.expression_faces import ExpressionLabels
from facedis_core.evaluate.face_labels import FaceLabel, read_labels
from facedis_core.io.paths import is_file, is_folder
from facedis_core.io.streams import naming, open_input, shown
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
    """

    evaluation: Evaluation
    names: list[str]
    labels: list[FaceLabel]
    expressions: list[str]
    expression: np.ndarray


def compare_meshes(
    truth: str,
    predicted: str,
    labels: str | None = None,
    *,
    neutral: str | None = None,
    units: Units = "auto",
    align: bool = False,
    on_match: Callable[[int], object] = lambda pairs: None,
    warn: Callable[[str], object] = lambda line: None,
    progress: Callable[[int], None] | None = None,
) -> MeshComparison:
    """E_rec of predicted meshes; with labels every metric that needs only meshes.

    With labels the predictions also count as identity faces: E_dis over those of a subject, AVD_neu
    to the subject's true neutral mesh, recognition by vertex distance.

    Args:
        truth: a folder, a mesh, or PLY after PLY in a file or on a pipe (`-`); meshes that are not
            in a folder are kept in memory.
        predicted: likewise, with the same names unless both sides are one mesh.
        labels: CSV file with the columns name, subject, expression.
        neutral: name of the neutral expression, which must occur; None = `neutral`, which may.
        units: unit of meshes that do not declare one; `auto` = by the size of the first true and
            of the first predicted one.
        align: align predictions rigidly to the truth first.
        on_match: called with the number of pairs before they are compared; may raise.
        warn: called with the warnings of the first true mesh, whose topology all have.
        progress: called with the number of newly compared meshes.

    Raises:
        InputError: unreadable input, a mesh without a partner or a label, meshes that do not fit.
    """
    pairs = _MeshPairs.matched(find_meshes(truth), find_meshes(predicted), truth, predicted, units)
    on_match(len(pairs.names))
    for line in pairs.reference.warnings:
        warn(line)
    if labels is None:
        subject = np.zeros(len(pairs.names), int)  # E_rec does not depend on subjects
        rows = np.arange(len(subject))
        evaluation = evaluate(pairs.sample, subject, rows, align=align, progress=progress)
        return MeshComparison(evaluation, pairs.names, [], [], subject)
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
        pairs, chosen, expression, neutral or "neutral", align=align, progress=progress
    )
    return MeshComparison(evaluation, pairs.names, chosen, shown.tolist(), expression)


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
    align: bool,
    progress: Callable[[int], None] | None,
) -> Evaluation:
    """Every metric; the first neutral of each subject is its true neutral and in the gallery."""
    people, subject = np.unique([label.subject for label in labels], return_inverse=True)
    neutrals = np.full((len(people), *pairs.reference.vertices.shape), np.nan, np.float32)
    gallery_rows: dict[int, int] = {}  # subject -> row of its first neutral
    predictions = []
    for row, label in enumerate(labels):
        person = int(subject[row])
        if label.expression == neutral and person not in gallery_rows:
            truth, predicted = pairs.faces(np.array([row]))
            neutrals[person] = truth[0]
            gallery_rows[person] = row
            predictions.append(align_faces(predicted, truth) if align else predicted)
    gallery = None
    if gallery_rows:
        faces = Prediction(identity=np.concatenate(predictions))
        gallery = Gallery(np.array([*gallery_rows]), np.array([*gallery_rows.values()]), faces)
    return evaluate(
        pairs.sample_with_identity,
        subject,
        np.arange(len(labels)),
        neutrals=neutrals,
        expressions=ExpressionLabels(expression, np.zeros(len(labels))),
        gallery=gallery,
        align=align,
        progress=progress,
    )


@dataclass(frozen=True, eq=False)
class _MeshPairs:
    """True and predicted meshes in one order.

    Attributes:
        names: name of each pair.
        truth, predicted: functions that read the meshes.
        reference: the first true mesh, whose topology all meshes must have.
        true_units, predicted_units: units of both.
    """

    names: list[str]
    truth: list[Callable[[], Mesh]]
    predicted: list[Callable[[], Mesh]]
    reference: Mesh
    true_units: BatchUnits
    predicted_units: BatchUnits

    @classmethod
    def matched(
        cls,
        truth: Meshes,
        predicted: Meshes,
        true_label: str,
        predicted_label: str,
        units: Units,
    ) -> "_MeshPairs":
        """Pairs of true and predicted meshes of one name, or of the only mesh on each side.

        Raises:
            InputError: a mesh has no partner; to leave it out would hide missing predictions.
        """
        names, both = list(truth), (BatchUnits(units), BatchUnits(units))
        first = both[0].in_mm(next(iter(truth.values()))())
        if len(truth) == len(predicted) == 1:
            return cls(names, list(truth.values()), list(predicted.values()), first, *both)
        for meshes, label, others, other_label in (
            (truth, true_label, predicted, predicted_label),
            (predicted, predicted_label, truth, true_label),
        ):
            alone = [name for name in meshes if name not in others]
            if alone:
                raise InputError(
                    f"{alone[0]!r} of {label} is not in {other_label}, {len(alone)} of "
                    f"{len(meshes)} meshes have no partner; a name is the path below the folder "
                    "without suffix",
                    ErrorCode.PARTNER_MISSING,
                )
        chosen = [predicted[name] for name in names]
        return cls(names, list(truth.values()), chosen, first, *both)

    def faces(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """True and predicted faces of rows (B,), both (B, V, 3) mm.

        Raises:
            InputError: unreadable, or of another topology than the reference.
        """
        true, predicted = (
            np.stack([self._vertices(meshes[row](), units, which, row) for row in rows])
            for meshes, units, which in (
                (self.truth, self.true_units, "true"),
                (self.predicted, self.predicted_units, "predicted"),
            )
        )
        for row, face, other in zip(rows, predicted, true, strict=True):
            name = self.names[row]
            check_one_size(face, other, f"the predicted mesh of {name!r}", "the true one")
        return true, predicted

    def sample(self, rows: np.ndarray) -> Sample:
        """The faces with the predicted ones as reconstructions."""
        true, predicted = self.faces(rows)
        return Sample(true, Prediction(predicted))

    def sample_with_identity(self, rows: np.ndarray) -> Sample:
        """The faces with the predicted ones as reconstructions and as identity faces."""
        true, predicted = self.faces(rows)
        return Sample(true, Prediction(predicted, predicted))

    def _vertices(self, mesh: Mesh, units: BatchUnits, which: str, row: int) -> np.ndarray:
        label, known = f"the {which} mesh of {self.names[row]!r}", self.reference
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
        return units.in_mm(mesh, label).vertices
