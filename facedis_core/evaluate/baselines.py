"""Linear baselines beside a model: mean face, PCA, FLAME's, and ridges to identity faces."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.data.face_set import TRAIN, FaceSet, check_topology
from facedis_core.data.pseudo_neutrals import PseudoNeutrals, pseudo_neutrals
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.conditions import unlabelled_condition
from facedis_core.evaluate.evaluation import (
    Evaluation,
    OrderedMap,
    evaluate_face_set,
    map_in_one_process,
)
from facedis_core.evaluate.prediction import Prediction, Predictor
from facedis_core.geometry.flame_like import FlameLike, fit_flame_like
from facedis_core.geometry.pca import BLOCK_FACES, Pca, face_blocks, fit_pca
from facedis_core.geometry.ridge import PENALTIES, held_out_errors, ridge_maps

FOLDS: Final = 5
DEFAULT_PENALTY: Final = 1e-3  # with one training subject there is no cross-validation
# Baselines whose targets are the neutrals of the set; all others do without labels.
LABELLED: Final = ("ridge_neutral", "ridge_neutral_2x", "flame_like")
# Baselines whose targets are pseudo-neutrals.
PSEUDO: Final = ("ridge_pseudo_neutral", "ridge_pseudo_neutral_2x", "flame_like_pseudo")


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear map from the first k PCA coefficients to identity faces.

    Attributes:
        weight: (k, 3V).
        intercept: (3V,) mm.
        penalty: chosen by cross-validation, relative to the mean variance of a coefficient.
    """

    weight: np.ndarray
    intercept: np.ndarray
    penalty: float

    def predict(self, coefficients: np.ndarray) -> np.ndarray:
        """Identity faces (B, V, 3) float32 mm from PCA coefficients (B, c) mm, c >= k."""
        flat = coefficients[:, : len(self.weight)] @ self.weight + self.intercept
        return flat.reshape(len(flat), -1, 3).astype(np.float32)


class Baseline(NamedTuple):
    """A fitted baseline.

    Attributes:
        key: of the JSON output.
        predict: its predictor.
        facts: what it is: its condition, number of coefficients, and how it was fitted.
    """

    key: str
    predict: Predictor
    facts: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Baselines:
    """What all baselines share; iteration fits one after the other.

    So only one of them is in memory: each has matrices of the size of the components.

    Attributes:
        train_set: the training faces.
        rows: (n,) of the training split.
        identity, expression: number of components of FLAME's model, in sum of the others.
        pca: principal components of the training faces, twice as many as `components` if possible.
        coefficients: (n, c) mm of the training faces.
        pseudo_neutrals: of the training people.
    """

    train_set: FaceSet
    rows: np.ndarray
    identity: int
    expression: int
    pca: Pca
    coefficients: np.ndarray
    pseudo_neutrals: PseudoNeutrals

    @property
    def components(self) -> int:
        """Number of components of the baseline `pca`."""
        return min(self.latents, len(self.pca.basis))

    @property
    def latents(self) -> int:
        """Number of latents of the model that they are fitted for."""
        return self.identity + self.expression

    def __iter__(self) -> Iterator[Baseline]:
        """Every baseline, in the order of tables.

        The mean face is both reconstruction and identity face. PCA does not split: its identity
        face is its reconstruction. A regression predicts the identity face; its reconstruction is
        that of PCA with as many components, so the expression is the difference. FLAME's model is
        left out beside a model of identity or expression latents alone.
        """
        unlabelled = unlabelled_condition(self.train_set)
        mean = self.pca.mean.reshape(1, -1, 3).astype(np.float32)

        def baseline(key: str, predict: Predictor, **facts: Any) -> Baseline:
            facts = {"condition": "labelled" if key in LABELLED else unlabelled, **facts}
            facts["latents"] = self.latents
            if key in PSEUDO:
                facts["pseudo_neutral"] = self.pseudo_neutrals.kind
            return Baseline(key, predict, facts)

        def mean_face(vertices: np.ndarray) -> Prediction:
            faces = np.repeat(mean, len(vertices), axis=0)
            return Prediction(faces, faces)

        def pca(vertices: np.ndarray) -> Prediction:
            faces = self.pca.decode(self.pca.encode(vertices)[:, : self.components])
            return Prediction(faces, faces)

        def regression(ridge: Ridge) -> Predictor:
            def predict(vertices: np.ndarray) -> Prediction:
                coefficients = self.pca.encode(vertices)
                faces = self.pca.decode(coefficients[:, : len(ridge.weight)])
                return Prediction(faces, ridge.predict(coefficients))

            return predict

        def flame(model: FlameLike) -> Predictor:
            return lambda vertices: Prediction(*model.split(vertices))

        yield baseline("mean_face", mean_face)
        yield baseline("pca", pca, components=self.components)
        counts = [self.components, min(2 * self.components, len(self.pca.basis))]
        subject = np.asarray(self.train_set.labels.subject)
        for key, target in self._targets().items():
            fitted = fit_ridges(self.coefficients, subject[self.rows], target, self.pca, counts)
            self.train_set.release()
            for name in (key, f"{key}_2x")[: len(fitted)]:
                ridge = fitted.pop(0)
                facts = {"components": len(ridge.weight), "penalty": ridge.penalty}
                yield baseline(name, regression(ridge), **facts)
                del ridge
        if not self.identity or not self.expression:
            return
        for key, neutrals in (
            ("flame_like_pseudo", self.pseudo_neutrals.faces),
            ("flame_like", self.train_set.neutrals),
        ):
            model = fit_flame_like(
                self.train_set.vertices,
                self.rows,
                subject,
                neutrals,
                self.identity,
                self.expression,
            )
            self.train_set.release()
            if model is not None:
                yield baseline(key, flame(model), components=model.components)
            del model

    def _targets(self) -> dict[str, Callable[[int], np.ndarray]]:
        """Regression -> subject -> its target face (V, 3) mm."""
        subject = np.asarray(self.train_set.labels.subject)[self.rows]

        def identity_mean(person: int) -> np.ndarray:
            faces = self.rows[subject == person]
            total = sum(block.sum(axis=0) for block in face_blocks(self.train_set.vertices, faces))
            return np.asarray(total / len(faces))

        return {
            "ridge_identity_mean": identity_mean,
            "ridge_pseudo_neutral": lambda person: self.pseudo_neutrals.faces[person],
            "ridge_neutral": lambda person: self.train_set.neutrals[person],
        }


def fit_baselines(train_set: FaceSet, identity: int, expression: int) -> Baselines:
    """Baselines of the training split of a face set.

    Ridges use as many coefficients as the PCA, and twice as many under the key with `_2x`. Few
    training faces limit both numbers. Those to a neutral, and `flame_like`, are left out where no
    training subject has one; those with `pseudo` do without, by pseudo-neutrals.

    Args:
        train_set: only its training split is read.
        identity: D_id of the model to compare with; the PCA has D_id + D_exp components.
        expression: D_exp.

    Raises:
        InputError: fewer than two training faces, all of them alike, or one that is not finite.
    """
    rows = train_set.rows(TRAIN)
    if len(rows) < 2:
        raise InputError(
            f"the face set has {len(rows)} training faces, baselines need 2 or more; "
            "do without them, or fit them on another set (fd-metrics --baselines-from)",
            ErrorCode.TOO_FEW_FACES,
        )
    train_set.release()
    for start in range(0, len(rows), BLOCK_FACES):
        train_set.read(rows[start : start + BLOCK_FACES])  # names a face that is not finite
    pca = fit_pca(train_set.vertices, rows, 2 * (identity + expression))
    if not len(pca.basis):
        raise InputError(
            "the training faces are all alike, there is nothing to fit; do without baselines, or "
            "fit them on another set (fd-metrics --baselines-from)",
            ErrorCode.FACES_ALIKE,
        )
    coefficients = np.concatenate(
        [pca.encode(block) for block in face_blocks(train_set.vertices, rows)]
    )
    estimated = pseudo_neutrals(train_set, rows)
    train_set.release()
    return Baselines(train_set, rows, identity, expression, pca, coefficients, estimated)


def evaluate_baselines(
    baselines: Baselines,
    face_set: FaceSet,
    rows: np.ndarray,
    *,
    region: np.ndarray | None = None,
    align: bool = False,
    progress: Callable[[int], None] | None = None,
    ordered_map: OrderedMap = map_in_one_process,
) -> dict[str, Evaluation]:
    """Evaluations of every baseline on rows of a face set, by JSON key.

    The metrics also have `Baseline.facts`. Arguments as of `evaluate_face_set`.

    Raises:
        InputError: the faces have another topology than the training faces, or are not finite.
    """
    check_topology(face_set, "the face set", baselines.train_set.topology, "its baselines")
    found = {}
    for baseline in baselines:
        evaluation = evaluate_face_set(
            baseline.predict,
            face_set,
            rows,
            region=region,
            align=align,
            progress=progress,
            ordered_map=ordered_map,
        )
        metrics = evaluation.metrics | dict(baseline.facts)
        found[baseline.key] = replace(evaluation, metrics=metrics)
        del baseline  # the next one is fitted without it, and without the pages that were read
        face_set.release()
    return found


def distinct_baselines(
    results: Mapping[str, Evaluation], warn: Callable[[str], object]
) -> dict[str, Evaluation]:
    """The baselines without those that repeat an earlier one, each named by `warn`.

    Those have the same errors under the same condition: few training faces leave no more components
    for the `_2x` regressions, for example.
    """
    found: dict[str, Evaluation] = {}
    for key, result in results.items():
        twin = next((other for other, known in found.items() if _is_repeated(known, result)), None)
        if twin is None:
            found[key] = result
        else:
            warn(f"baseline {key} left out: it repeats {twin}")
    return found


def _is_repeated(one: Evaluation, other: Evaluation) -> bool:
    """Whether two methods of one condition have the same errors on each mesh."""
    return (
        one.metrics.get("condition") == other.metrics.get("condition")
        and one.per_mesh.keys() == other.per_mesh.keys()
        and all(
            np.array_equal(values, other.per_mesh[key], equal_nan=True)
            for key, values in one.per_mesh.items()
        )
    )


def fit_ridges(
    coefficients: np.ndarray,
    subject: np.ndarray,
    target: Callable[[int], np.ndarray],
    pca: Pca,
    counts: Sequence[int],
) -> list[Ridge]:
    """Ridge regressions from the first k coefficients of a face to its subject's target face.

    The penalty is chosen by cross-validation over subjects, on the PCA coefficients of the targets;
    the map is then fitted to the targets themselves, block by block.

    Args:
        coefficients: (N, c) mm.
        subject: (N,).
        target: subject -> its target face (V, 3) mm; not finite = none.
        pca: the PCA of the coefficients.
        counts: values of k.

    Returns:
        One regression for each k; none where no subject has a target.
    """
    people = np.unique(subject)
    projected = np.concatenate([pca.encode(block) for _, block in _target_blocks(people, target)])
    people, projected = (a[np.isfinite(projected).all(axis=1)] for a in (people, projected))
    if not len(people):
        return []
    used = np.isin(subject, people)
    number = np.searchsorted(people, subject[used])  # of the subject of each face
    share = np.bincount(number) / len(number)
    x = coefficients[used]
    mean = x.mean(axis=0)
    x = x - mean
    penalties = [choose_penalty(x[:, :k], projected[number], number) for k in counts]
    second = x.T @ x / len(x)
    totals = np.stack([x[number == i].sum(axis=0) for i in range(len(people))]) / len(x)  # (S, c)
    # all faces of a subject have one target, so the moments X'Y / N are totals' targets
    solved = [
        ridge_maps(second[:k, :k], totals[:, :k].T, [penalty])[0]  # (k, S)
        for k, penalty in zip(counts, penalties, strict=True)
    ]
    weights = [np.zeros((len(rows), len(pca.mean))) for rows in solved]
    intercept = np.zeros(len(pca.mean))
    for where, block in _target_blocks(people, target):
        targets = block.reshape(len(block), -1)
        intercept += share[where] @ targets
        for weight, rows in zip(weights, solved, strict=True):
            weight += rows[:, where] @ targets
    return [
        Ridge(weight, intercept - mean[: len(weight)] @ weight, penalty)
        for weight, penalty in zip(weights, penalties, strict=True)
    ]


def choose_penalty(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> float:
    """The candidate of PENALTIES with the least squared error on held-out groups.

    Args:
        x: inputs (N, k).
        y: targets (N, m).
        group: (N,) integers from 0; group g is held out in fold g mod FOLDS.
    """
    folds = group % min(FOLDS, int(group.max()) + 1)
    if folds.max() == 0:
        return DEFAULT_PENALTY
    return PENALTIES[int((held_out_errors(x, y, folds) ** 2).sum(axis=1).argmin())]


def _target_blocks(
    people: np.ndarray, target: Callable[[int], np.ndarray]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of `people` and their target faces in float64, BLOCK_FACES (n, V, 3) at a time."""
    for start in range(0, len(people), BLOCK_FACES):
        where = slice(start, start + BLOCK_FACES)
        yield where, np.stack([target(person) for person in people[where]]).astype(np.float64)
