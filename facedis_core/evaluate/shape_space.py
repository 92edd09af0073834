"""Generality and specificity: how much of unseen faces few latents hold, and how real samples are.

Davies, Twining, Cootes, Waterton, Taylor, "A minimum description length approach to statistical
shape modeling", IEEE TMI 2002; with the mean vertex distance d as the distance of two faces.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import TRAIN, FaceSet
from facedis_core.data.latents import Latents, concatenate
from facedis_core.evaluate.evaluation import Evaluation
from facedis_core.evaluate.metrics import (
    BOUND_VERTICES,
    GENERALITY,
    generality_key,
    reconstruction_error,
    summarize,
)
from facedis_core.evaluate.uncertainty import SubjectSums
from facedis_core.geometry.distances import vertex_distance, vertex_distances
from facedis_core.model.latent_directions import leading_directions
from facedis_core.model.model import LatentPart, Model
from facedis_core.pipeline.sample import sample

BLOCK: Final = 32  # faces in memory at once
Region = NDArray[np.bool_] | None


class KnownFaces(NamedTuple):
    """Faces whose latents tell a distribution: the training faces of a set, else those measured.

    Attributes:
        rows: (n,) of the set.
        latents: n rows.
    """

    rows: NDArray[np.integer]
    latents: Latents

    @classmethod
    def of(cls, model: Model, faces: FaceSet, measured: NDArray[np.integer]) -> "KnownFaces":
        """Encode the training faces of a set, or those that are measured if it has none."""
        training = faces.rows(TRAIN)
        rows = training if len(training) > 1 else measured
        return cls(rows, concatenate([model.encode_prepared(faces.read(b)) for b in _blocks(rows)]))


def add_shape_space(
    evaluation: Evaluation,
    model: Model,
    faces: FaceSet,
    *,
    samples: int,
    region: Region = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """The evaluation of a model on rows of a set with `specificity` and `generality_K` added.

    `specificity_real` is the same distance of measured faces, as many, unless they are known ones.

    Args:
        evaluation: of this model on this set.
        model: the model.
        faces: the set.
        samples: number of faces to sample.
        region: (V,) bool, vertices to measure; None = all.
        seed: of the samples.
        progress: called with the number of new faces.

    Raises:
        InputError: fewer than two faces in the set.
    """
    rows = evaluation.rows
    known = KnownFaces.of(model, faces, rows)
    progress(len(known.rows))
    drawn = sample(known.latents, samples, seed=seed)
    made = model.decode_vectors(drawn.identity, drawn.expression)
    nearest = nearest_distances(_within(made, region), faces, known.rows, region)
    progress(len(known.rows))
    metrics = dict(evaluation.metrics)
    sums = dict(evaluation.sums)
    metrics["specificity"] = summarize(nearest)._asdict()
    if not np.isin(rows, known.rows).any():
        chosen = rows[np.arange(min(samples, len(rows))) * len(rows) // min(samples, len(rows))]
        real = nearest_distances(_within(faces.read(chosen), region), faces, known.rows, region)
        metrics["specificity_real"] = summarize(real)._asdict()
    errors = generality(model, known.latents, faces, rows, region, progress)
    for count, values in errors.items():
        key = generality_key(count)
        metrics[key] = summarize(values)._asdict()
        sums[key] = SubjectSums.of_values(values, evaluation.subject, len(evaluation.subjects))
    return replace(evaluation, metrics=metrics, sums=sums)


def generality(
    model: Model,
    known: Latents,
    faces: FaceSet,
    rows: NDArray[np.integer],
    region: Region = None,
    progress: Callable[[int], None] = lambda count: None,
) -> dict[int, NDArray[np.float64]]:
    """Errors (n,) mm of the reconstructions of rows from K leading latents alone, by K.

    The latents of a face, less the mean of the known ones, are taken apart by the leading
    directions of identity and of expression, which are told apart by how far a standard deviation
    moves the face; all but the K strongest of both together are set to 0.
    """
    parts: tuple[LatentPart, ...] = ("identity", "expression")
    means = {part: getattr(known, part).mean(axis=0, dtype=np.float64) for part in parts}
    found = {part: leading_directions(model, part, getattr(known, part)) for part in parts}
    order = np.argsort(-np.concatenate([found[part].mm for part in parts]), kind="stable")
    counts = [count for count in GENERALITY if count <= len(order)]
    errors: dict[int, list[NDArray[np.float64]]] = {count: [] for count in counts}
    for block in _blocks(rows):
        truth = faces.read(block)
        latents = model.encode_prepared(truth)
        moves = [
            np.linalg.solve(found[p].steps.T.astype(np.float64), (getattr(latents, p) - means[p]).T)
            for p in parts
        ]
        weights = np.concatenate(moves).T  # (B, D_id + D_exp)
        for count in counts:
            kept = np.zeros_like(weights)
            kept[:, order[:count]] = weights[:, order[:count]]
            identity, expression = np.split(kept, [len(means["identity"])], axis=1)
            made = model.decode_vectors(
                (means["identity"] + identity @ found["identity"].steps).astype(np.float32),
                (means["expression"] + expression @ found["expression"].steps).astype(np.float32),
            )
            errors[count].append(
                reconstruction_error(_within(made, region), _within(truth, region))
            )
        progress(len(block))
    return {count: np.concatenate(values) for count, values in errors.items()}


def nearest_distances(
    made: NDArray[np.floating],
    faces: FaceSet,
    rows: NDArray[np.integer],
    region: Region = None,
) -> NDArray[np.float64]:
    """Distance d of each of N faces (N, V, 3) mm to the nearest of rows of a set, (N,) mm.

    A sum of distances is at least the length of the sum of the difference vectors: that bound
    leaves out most pairs.
    """
    starts = np.arange(0, made.shape[1], BOUND_VERTICES)
    sums = np.add.reduceat(made, starts, axis=1, dtype=np.float64)
    nearest = np.full(len(made), np.inf)
    for block in _blocks(rows):
        known = _within(faces.read(block), region)
        known_sums = np.add.reduceat(known, starts, axis=1, dtype=np.float64)
        for k, face in enumerate(made):
            bounds = vertex_distances(known_sums, sums[k]).sum(axis=-1) / made.shape[1]
            for other in np.argsort(bounds):
                if bounds[other] > nearest[k]:
                    break
                nearest[k] = min(nearest[k], float(vertex_distance(face, known[other])))
    return nearest


def _within(faces: NDArray[np.floating], region: Region) -> NDArray[np.floating]:
    return faces if region is None else faces[:, region]


def _blocks(rows: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]
