"""Metrics of a split into identity and expression: one function for each definition, in mm.

Pure functions on arrays, computed in float64. What is undefined (the spread of one face, the mean
of no values) is an error instead of 0 or NaN.

d(a, b) is the mean vertex distance of two faces (`vertex_distance`).

Source: Gu, Pears, Sun, "Adversarial 3D Face Disentanglement of Identity and Expression", FG 2023.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from facedis_core.geometry.distances import vertex_distance, vertex_distances

# Numbers of latents kept, for generality.
GENERALITY: Final = (1, 2, 4, 8, 16, 32, 64, 128)


def generality_key(count: int) -> str:
    """JSON key of the reconstruction error from so many leading latents."""
    return f"generality_{count}"


# JSON key of every number of a report -> the better direction; None for context such as counts.
BETTER: Final[Mapping[str, Literal["lower", "higher"] | None]] = {
    "e_rec": "lower",
    "e_dis": "lower",
    "e_dis_jiang": "lower",
    "e_dis_mean_distance": "lower",
    "avd_neu": "lower",
    "e_exp": "lower",
    "e_exp_jiang": "lower",
    "e_exp_mean_distance": "lower",
    "between_subject": None,
    "rank1_cosine_accuracy": "higher",
    "rank1_vertex_accuracy": "higher",
    "rank1_probes": None,
    "expression_from_identity_accuracy": "lower",
    "expression_from_expression_accuracy": "higher",
    "expression_chance": None,
    "expression_faces": None,
    "identity_from_expression_accuracy": "lower",
    "identity_from_expression_chance": None,
    "identity_from_expression_faces": None,
    "specificity": "lower",
    "specificity_real": None,
    **{generality_key(count): "lower" for count in GENERALITY},
}

# Number of consecutive vertices that are summed for a lower bound of vertex distances.
BOUND_VERTICES: Final = 16


class Summary(NamedTuple):
    """Mean, population standard deviation, median and number of values."""

    mean: float
    std: float
    median: float
    n: int


def summarize(values: Sequence[float] | np.ndarray) -> Summary:
    """The summary of at least one value.

    Raises:
        ValueError: no values.
    """
    values = np.asarray(values, np.float64).ravel()
    if not values.size:
        raise ValueError("cannot summarize no values")
    mean, std, median = (float(f(values)) for f in (np.mean, np.std, np.median))
    return Summary(mean, std, median, values.size)


def reconstruction_error(reconstruction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """E_rec (eq. 9) = d(reconstruction, input) of each mesh, (N,) mm.

    Args:
        reconstruction: (N, V, 3) mm.
        truth: the inputs (N, V, 3) mm.
    """
    return vertex_distance(reconstruction, truth)


def neutral_error(identity: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """AVD_neu = d(identity face, true neutral of the subject) of each mesh, (N,) mm.

    Args:
        identity: predicted identity faces (N, V, 3) mm.
        neutral: (V, 3) mm, or (N, V, 3).
    """
    return vertex_distance(identity, neutral)


@dataclass(frozen=True, eq=False)
class FaceSpread:
    """Spread of k faces f_i around their mean m, e.g. of the identity faces of one subject.

    Attributes:
        distances: |f_iv - m_v| (k, V) mm.
    """

    distances: np.ndarray

    @classmethod
    def of(cls, faces: np.ndarray) -> "FaceSpread":
        """The spread of faces (k, V, 3) mm.

        Raises:
            ValueError: fewer than two faces, whose spread would be a meaningless 0.
        """
        if len(faces) < 2:
            raise ValueError(f"a spread needs at least 2 faces, got {len(faces)}")
        mean = faces.mean(axis=0, dtype=np.float64)
        return cls(np.stack([vertex_distances(face, mean) for face in faces]))

    def std(self) -> float:
        """E_dis (eq. 10) = population std over i and v of |f_iv - m_v|, mm.

        It is 0 where all distances are equal, however large: read it beside the two below.
        """
        return float(self.distances.std())

    def jiang(self) -> float:
        """E_dis of Jiang et al. = mean over v of sqrt(mean over i of |f_iv - m_v|^2), mm.

        The root is the norm of the per-coordinate population std at a vertex. Source:
        "Disentangled Representation Learning for 3D Face Shape", CVPR 2019.
        """
        return float(self._root_mean_squares().mean())

    def mean_distance(self) -> float:
        """Mean over i and v of |f_iv - m_v|, mm."""
        return float(self.distances.mean())

    def std_contributions(self) -> np.ndarray:
        """Linear contributions of the faces to `std`, (k,) mm: their mean is the std.

        The influence of face i on the std, with the mean face held fixed.
        """
        mean, std = self.distances.mean(), self.distances.std()
        squares = ((self.distances - mean) ** 2).mean(axis=1)
        return np.asarray(std + (squares - std**2) / (2 * std if std > 0 else 1.0))

    def jiang_contributions(self) -> np.ndarray:
        """Linear contributions of the faces to `jiang`, (k,) mm: their mean is its value."""
        roots = self._root_mean_squares()
        inverse = np.where(roots > 0, 1 / np.where(roots > 0, roots, 1.0), 0.0)
        squares = np.einsum("kv,kv,v->k", self.distances, self.distances, inverse)
        return np.asarray((roots.mean() + squares / len(roots)) / 2)

    def mean_distance_contributions(self) -> np.ndarray:
        """Contributions of the faces to `mean_distance`: the distance of each to m, (k,) mm."""
        return np.asarray(self.distances.mean(axis=1))

    def _root_mean_squares(self) -> np.ndarray:
        squares = np.einsum("kv,kv->v", self.distances, self.distances)
        return np.asarray(np.sqrt(squares / len(self.distances)))


def cosine_similarity(latents: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """a.b / (|a| |b|) of latents a (P, D) and gallery latents b (S, D): (P, S); 0 for zeros."""

    def unit(z: np.ndarray) -> np.ndarray:
        z = np.asarray(z, np.float64)
        length = np.linalg.norm(z, axis=-1, keepdims=True)
        return z / np.where(length > 0, length, 1)

    return unit(latents) @ unit(gallery).T


def recognized_by_cosine(
    latents: np.ndarray, own: int, gallery: np.ndarray, margin: float = 1e-12
) -> np.ndarray:
    """Rank-1 recognition by the cosine of z_id: whether the own subject is the most similar, (P,).

    A tie is a miss, so a model with one latent for all subjects recognizes none.

    Args:
        latents: z_id of the probes of one subject (P, D).
        own: row of that subject in the gallery.
        gallery: z_id of each subject's neutral (S, D).
        margin: difference of cosines that counts as a tie, for rounding.
    """
    cosine = cosine_similarity(latents, gallery)
    others = np.delete(cosine, own, axis=1)
    return cosine[:, own] > others.max(axis=1, initial=-np.inf) + margin


def recognized_by_vertex_distance(faces: np.ndarray, own: int, gallery: np.ndarray) -> np.ndarray:
    """Rank-1 recognition by d: whether the own subject is the nearest, (P,) bool.

    A tie is a miss. A bound excludes most of the gallery and leaves the result exact: a sum of
    distances is at least the length of the sum of the difference vectors.

    Args:
        faces: identity faces (P, V, 3) mm of the probes of one subject.
        own: row of that subject in the gallery.
        gallery: identity face of each subject's neutral (S, V, 3) mm.
    """
    count = gallery.shape[1]
    starts = np.arange(0, count, BOUND_VERTICES)
    sums = np.add.reduceat(gallery, starts, axis=1, dtype=np.float64)  # (S, V / 16, 3)
    hits = np.empty(len(faces), bool)
    for i, face in enumerate(faces):
        distance = vertex_distance(face, gallery[own])
        face_sums = np.add.reduceat(face, starts, axis=0, dtype=np.float64)
        bounds = vertex_distances(sums, face_sums).sum(-1) / count
        bounds[own] = np.inf
        rivals = np.flatnonzero(bounds <= distance * (1 + 1e-9))  # rounding must exclude none
        rivals = rivals[np.argsort(bounds[rivals])]
        hits[i] = not any(vertex_distance(face, gallery[rival]) <= distance for rival in rivals)
    return hits
