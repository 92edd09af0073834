"""Predicted meshes of any method against true ones, matched by name."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from facedis_core.errors import InputError
from facedis_core.evaluate.evaluation import (
    Evaluation,
    Gallery,
    Prediction,
    Sample,
    align_faces,
    evaluate,
)
from facedis_core.io.csv_text import brief, read_rows, read_text
from facedis_core.io.paths import is_file, is_folder
from facedis_core.io.streams import open_input, shown
from facedis_core.mesh.mesh import Mesh, mesh_files, read_mesh, read_meshes, topology_id

_COLUMNS: Final = ("name", "subject", "expression")

Meshes = Mapping[str, Callable[[], Mesh]]  # name -> reads it


@dataclass(frozen=True)
class MeshLabel:
    """Whose face it is, with which expression."""

    subject: str
    expression: str


@dataclass(frozen=True, eq=False)
class MeshComparison:
    """What was measured; `names` and, where there are any, `labels` belong to its rows."""

    evaluation: Evaluation
    names: list[str]
    labels: list[MeshLabel]


def compare_meshes(
    truth: str,
    predicted: str,
    labels: str | None = None,
    *,
    neutral: str | None = None,
    align: bool = False,
    on_match: Callable[[int], object] = lambda pairs: None,
    progress: Callable[[int], None] | None = None,
) -> MeshComparison:
    """E_rec of predicted meshes; with labels every metric that meshes alone allow.

    With labels the predictions also count as identity faces: E_dis over those of a subject, AVD_neu
    to the subject's true mesh of the neutral expression, recognition by vertex distance. Meshes
    are taken to be in mm.

    Args:
        truth: a folder, a mesh, or PLY after PLY in a file or on a pipe (`-`); what does not lie
            in a folder is kept in memory.
        predicted: likewise, with the same names, unless there is one mesh on each side.
        labels: CSV with the columns name, subject, expression.
        neutral: the neutral expression, which must occur; None = `neutral`, if it occurs.
        align: move predictions rigidly onto the truth first.
        on_match: told how many pairs there are before anything is computed; may raise.
        progress: told the number of meshes done.

    Raises:
        InputError: unreadable input, names or labels without a partner, meshes that do not fit.
    """
    pairs = _MeshPairs.matched(find_meshes(truth), find_meshes(predicted), truth, predicted)
    on_match(len(pairs.names))
    if labels is None:
        everybody = np.zeros(len(pairs.names), int)  # E_rec does not ask whose face it is
        rows = np.arange(len(everybody))
        found = evaluate(pairs.sample, everybody, rows, align=align, progress=progress)
        return MeshComparison(found, pairs.names, [])
    known = read_labels(labels, frozenset(pairs.names))
    missing = [name for name in pairs.names if name not in known]
    if missing:
        raise InputError(
            f"{labels} has no row for {missing[0]!r}, {len(missing)} of {len(pairs.names)} meshes; "
            "a name is the path below the folder without suffix"
        )
    chosen = [known[name] for name in pairs.names]
    if neutral is not None and all(label.expression != neutral for label in chosen):
        raise InputError(f"no mesh has the expression {neutral!r}, given as neutral, in {labels}")
    found = _evaluate_labelled(pairs, chosen, neutral or "neutral", align=align, progress=progress)
    return MeshComparison(found, pairs.names, chosen)


def _evaluate_labelled(
    pairs: "_MeshPairs",
    labels: list[MeshLabel],
    neutral: str,
    *,
    align: bool,
    progress: Callable[[int], None] | None,
) -> Evaluation:
    """Every metric, with the first neutral of each subject as its truth and in the gallery."""
    people, subject = np.unique([label.subject for label in labels], return_inverse=True)
    neutrals = np.full((len(people), *pairs.reference.vertices.shape), np.nan, np.float32)
    owners, rows, predictions = [], [], []
    for row, label in enumerate(labels):
        person = int(subject[row])
        if label.expression == neutral and person not in owners:
            truth, predicted = pairs.faces(np.array([row]))
            neutrals[person] = truth[0]
            owners.append(person)
            rows.append(row)
            predictions.append(align_faces(predicted, truth) if align else predicted)
    gallery = None
    if owners:
        faces = Prediction(identity=np.concatenate(predictions))
        gallery = Gallery(np.array(owners), np.array(rows), faces)
    return evaluate(
        pairs.sample_with_identity,
        subject,
        np.arange(len(labels)),
        neutrals=neutrals,
        gallery=gallery,
        align=align,
        progress=progress,
    )


@dataclass(frozen=True, eq=False)
class _MeshPairs:
    """True and predicted meshes in one order; `reference` is what all of them must be like."""

    names: list[str]
    truth: list[Callable[[], Mesh]]
    predicted: list[Callable[[], Mesh]]
    reference: Mesh

    @classmethod
    def matched(
        cls, truth: Meshes, predicted: Meshes, true_label: str, predicted_label: str
    ) -> "_MeshPairs":
        """Pairs of one name.

        A mesh without a partner is an error: scoring what is there would hide what is missing.
        """
        names, first = list(truth), next(iter(truth.values()))()
        if len(truth) == len(predicted) == 1:
            return cls(names, list(truth.values()), list(predicted.values()), first)
        for has, where, lacks, other in (
            (truth, true_label, predicted, predicted_label),
            (predicted, predicted_label, truth, true_label),
        ):
            alone = [name for name in has if name not in lacks]
            if alone:
                raise InputError(
                    f"{alone[0]!r} of {where} is not in {other}, {len(alone)} of {len(has)} meshes "
                    "have no partner; a name is the path below the folder without suffix"
                )
        return cls(names, list(truth.values()), [predicted[name] for name in names], first)

    def faces(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """True and predicted faces, both (B, V, 3) mm."""
        true, predicted = (
            np.stack([self._vertices(meshes[row](), which, row) for row in rows])
            for meshes, which in ((self.truth, "true"), (self.predicted, "predicted"))
        )
        return true, predicted

    def sample(self, rows: np.ndarray) -> Sample:
        """The predicted faces as reconstructions."""
        true, predicted = self.faces(rows)
        return Sample(true, Prediction(predicted))

    def sample_with_identity(self, rows: np.ndarray) -> Sample:
        """The predicted faces as reconstructions and as identity faces."""
        true, predicted = self.faces(rows)
        return Sample(true, Prediction(predicted, predicted))

    def _vertices(self, mesh: Mesh, which: str, row: int) -> np.ndarray:
        label, known = f"the {which} mesh of {self.names[row]!r}", self.reference
        if len(mesh.vertices) != len(known.vertices):
            raise InputError(
                f"{label} has {len(mesh.vertices)} vertices, expected {len(known.vertices)} as the "
                "first true one; only meshes of one registration compare"
            )
        both = len(mesh.triangles) and len(known.triangles)
        if both and not np.array_equal(mesh.triangles, known.triangles):
            raise InputError(
                f"{label} has topology {topology_id(mesh.triangles)}, expected "
                f"{topology_id(known.triangles)} as the first true one; only meshes of one "
                "registration compare"
            )
        return mesh.vertices


def find_meshes(source: str) -> Meshes:
    """Meshes by name: of a folder read when asked for, of anything else kept in memory.

    Raises:
        InputError: nothing there, not meshes, or two of one name.
    """
    found: dict[str, Callable[[], Mesh]] = {}
    if is_folder(source):
        for path in mesh_files(Path(source)):
            name = path.relative_to(source).with_suffix("").as_posix()
            if name in found:
                raise InputError(f"{shown(source)} holds two meshes named {name!r}; keep one")
            found[name] = partial(read_mesh, path)
        return found
    path = Path(source)
    with open_input(source) as stream:
        several = not is_file(path) or path.suffix.lower() == ".ply"
        for mesh in read_meshes(stream, source) if several else [read_mesh(path)]:
            if mesh.name in found:
                raise InputError(
                    f"{shown(source)} holds two meshes named {mesh.name!r}; rename one"
                )
            found[mesh.name] = partial(_same_mesh, mesh)
    return found


def _same_mesh(mesh: Mesh) -> Mesh:
    return mesh


def read_labels(
    source: str, names: Container[str] | None = None, needed: Sequence[str] = _COLUMNS
) -> dict[str, MeshLabel]:
    """Labels by mesh name, of a CSV file with the columns name, subject, expression.

    `names` are those of the meshes, the labels of all others are left out; None = all labels. Of
    the columns only those must be there that are `needed`; what others do not say is empty.

    Raises:
        InputError: missing columns, empty fields, or two different rows for one name.
    """

    def check_header(header: Sequence[str]) -> None:
        missing = [column for column in needed if column not in header]
        if missing:
            raise InputError(
                f"{source} has no column {missing[0]!r}; its first line must be {','.join(needed)}"
            )

    found: dict[str, MeshLabel] = {}
    rows = read_rows(read_text(source), source, check_header, skipinitialspace=True)
    for number, row in rows:
        name, subject, expression = ((row.get(column) or "").strip() for column in _COLUMNS)
        if not (name and subject and (expression or "expression" not in needed)):
            raise InputError(f"{source}, line {number}: an empty field; fill in all columns")
        if names is not None and name not in names:
            continue
        label = MeshLabel(subject, expression)
        if found.setdefault(name, label) != label:
            raise InputError(f"{source}, line {number}: {brief(name)} has another label above")
    return found
