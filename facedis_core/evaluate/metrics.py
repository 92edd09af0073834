"""How good a split into identity and expression is: every number in mm, formed in float64.

Pure functions on arrays, one a definition; `evaluation` applies them to whole sets. What has no
meaning (the spread of one face, the mean of nothing) is an error, never 0 or NaN.

Source: Gu, Pears, Sun, "Adversarial 3D Face Disentanglement of Identity and Expression", FG 2023.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np

from facedis_core.geometry.distances import vertex_distance, vertex_distances

# Every number of a report by its JSON key, and which way it is better; None of those that say only
# how the others are to be read.
BETTER: Final[Mapping[str, Literal["lower", "higher"] | None]] = {
    "e_rec": "lower",
    "e_dis": "lower",
    "e_dis_jiang": "lower",
    "e_dis_mean_distance": "lower",
    "avd_neu": "lower",
    "between_subject": None,
    "rank1_cosine_accuracy": "higher",
    "rank1_vertex_accuracy": "higher",
    "rank1_probes": None,
    "expression_from_identity_accuracy": "lower",
    "expression_from_expression_accuracy": "higher",
    "expression_chance": None,
    "expression_faces": None,
}

# Consecutive vertices summed up by the sketch that rules out most of a gallery.
SKETCH: Final = 16


class Summary(NamedTuple):
    """Mean, population standard deviation and median of n values."""

    mean: float
    std: float
    median: float
    n: int


def summarize(values: Sequence[float] | np.ndarray) -> Summary:
    """Summary of at least one value.

    Raises:
        ValueError: there is none; an empty mean would be a silent NaN.
    """
    values = np.asarray(values, np.float64).ravel()
    if not values.size:
        raise ValueError("cannot summarize no values")
    mean, std, median = (float(f(values)) for f in (np.mean, np.std, np.median))
    return Summary(mean, std, median, values.size)


def reconstruction_error(reconstruction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """E_rec (eq. 9): d(reconstruction, input) of each mesh, (N,) mm, both (N, V, 3)."""
    return vertex_distance(reconstruction, truth)


def neutral_error(identity: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """AVD_neu: d(identity face, the subject's true neutral), (N,) mm; (N, V, 3) and (V, 3)."""
    return vertex_distance(identity, neutral)


def distances_to_mean(faces: np.ndarray) -> np.ndarray:
    """Distance of every vertex of every face (k, V, 3) to the mean of the k faces, (k, V) mm.

    Raises:
        ValueError: fewer than two faces, whose spread would be a meaningless 0.
    """
    if len(faces) < 2:
        raise ValueError(f"a spread needs at least 2 faces, got {len(faces)}")
    mean = faces.mean(axis=0, dtype=np.float64)
    return np.stack([vertex_distances(face, mean) for face in faces])


def disentanglement_error(faces: np.ndarray) -> float:
    """E_dis (eq. 10) of one subject's k predicted identity faces (k, V, 3), mm.

    The population standard deviation of all k V distances to the mean of the k faces. It is 0
    where the distances are constant, however large: read it beside the two below.
    """
    return float(distances_to_mean(faces).std())


def disentanglement_error_jiang(faces: np.ndarray) -> float:
    """E_dis as Jiang et al. 2019 have it, of one subject's k identity faces (k, V, 3), mm.

    Per vertex the norm of the per-coordinate population standard deviation over the k faces, which
    is the root mean square of its k distances; then the mean over vertices. ("Disentangled
    Representation Learning for 3D Face Shape", CVPR 2019.)
    """
    return float(np.sqrt((distances_to_mean(faces) ** 2).mean(axis=0)).mean())


def disentanglement_mean_distance(faces: np.ndarray) -> float:
    """Mean of all k V distances of k identity faces (k, V, 3) of one subject to their mean, mm."""
    return float(distances_to_mean(faces).mean())


def between_subject_spread(faces: np.ndarray) -> float:
    """The formula of E_dis (eq. 10) over S people, one identity face each, (S, V, 3), mm."""
    return disentanglement_error(faces)


def cosine_similarity(latents: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Cosine of each latent (P, D) with each of a gallery (S, D): (P, S); that of zeros is 0."""

    def unit(z: np.ndarray) -> np.ndarray:
        z = np.asarray(z, np.float64)
        length = np.linalg.norm(z, axis=-1, keepdims=True)
        return z / np.where(length > 0, length, 1)

    return unit(latents) @ unit(gallery).T


def recognized_by_cosine(
    latents: np.ndarray, own: int, gallery: np.ndarray, margin: float = 1e-12
) -> np.ndarray:
    """Rank-1 recognition by the cosine of z_id: (P,) bool for probes (P, D) and a gallery (S, D).

    All probes are of the person in row `own` of the gallery. A tie is a miss, so that a model which
    gives everybody one latent recognizes nobody; `margin` keeps rounding from breaking ties.
    """
    cosine = cosine_similarity(latents, gallery)
    others = np.delete(cosine, own, axis=1)
    return cosine[:, own] > others.max(axis=1, initial=-np.inf) + margin


def recognized_by_vertex_distance(faces: np.ndarray, own: int, gallery: np.ndarray) -> np.ndarray:
    """Rank-1 recognition by d: (P,) bool for identity faces (P, V, 3) and a gallery (S, V, 3).

    All probes are of the person in row `own` of the gallery; a tie is a miss. Exact, though a bound
    rules out most of the gallery: the distances of some vertices sum up to at least the length of
    the sum of their differences.
    """
    count = gallery.shape[1]
    starts = np.arange(0, count, SKETCH)
    sketches = np.add.reduceat(gallery, starts, axis=1, dtype=np.float64)  # (S, V / SKETCH, 3)
    hits = np.empty(len(faces), bool)
    for i, face in enumerate(faces):
        distance = vertex_distance(face, gallery[own])
        sketch = np.add.reduceat(face, starts, axis=0, dtype=np.float64)
        bounds = vertex_distances(sketches, sketch).sum(-1) / count
        bounds[own] = np.inf
        rivals = np.flatnonzero(bounds <= distance * (1 + 1e-9))  # rounding must not rule one out
        rivals = rivals[np.argsort(bounds[rivals])]
        hits[i] = not any(vertex_distance(face, gallery[rival]) <= distance for rival in rivals)
    return hits
