"""Completion: the whole head of a face whose other vertices are not known."""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.model.model import Model

NOISE_MM: Final = 0.5  # standard deviation of what the principal components miss of a known vertex
NEIGHBOURS: Final = 4
FADING_MM: Final = 20.0

Points = NDArray[np.float64]


def complete_head(model: Model, known: NDArray[np.bool_], face: Points) -> Points:
    """All vertices of a head, (V, 3) mm, by the principal components of a linear model.

    The components are those of the largest posterior, which for standardised c ~ N(0, 1) and known
    offsets x = B c + noise are (B^T B + s^2)^-1 B^T x. What they miss of the known vertices is
    added to the vertices beside them and fades with the distance, so that no seam is seen.

    Args:
        model: a model with a `basis`.
        known: (V,), which vertices are known; at least NEIGHBOURS.
        face: (V, 3) mm; the known vertices stay as they are, the values of others do not matter.
    """
    if known.all():
        return face
    system = _system(model, known.tobytes())
    offset = (face - system.mean)[known].ravel()
    components = np.linalg.solve(system.precision, system.shown @ offset)
    basis = model.weights["basis"].astype(np.float32)
    moved = (components * system.unit).astype(np.float32) @ basis
    head = system.mean + moved.reshape(-1, 3)
    missed = (face - head)[known]
    head[~known] += (system.weight[:, :, None] * missed[system.near]).sum(axis=1)
    head[known] = face[known]
    return head


class _System(NamedTuple):
    """What does not depend on the face.

    Attributes:
        mean: (V, 3) mm.
        unit: (K,) mm, standard deviation of each component.
        shown: (K, 3 k) components at the k known vertices, mm per standard deviation.
        precision: (K, K).
        near: (V - k, NEIGHBOURS) the nearest known vertices to each other one.
        weight: likewise, of what the components miss of them.
    """

    mean: Points
    unit: Points
    shown: Points
    precision: Points
    near: NDArray[np.intp]
    weight: Points


@lru_cache(maxsize=2)  # scans of a batch and frames of a sequence have the same
def _system(model: Model, known_bytes: bytes) -> _System:
    from scipy.spatial import cKDTree

    known = np.frombuffer(known_bytes, np.bool_)
    mean = model.mean_face.astype(np.float64)
    basis = model.weights["basis"]
    unit = model.weights["deviation"].astype(np.float64) * model.scale  # mm
    shown = basis.reshape(len(basis), -1, 3)[:, known].reshape(len(basis), -1)
    shown = shown.astype(np.float64) * unit[:, None]
    precision = shown @ shown.T + NOISE_MM**2 * np.eye(len(basis))
    distance, near = cKDTree(mean[known]).query(mean[~known], NEIGHBOURS)
    weight = 1 / np.maximum(distance, 1e-6)
    weight *= np.exp(-((distance[:, :1] / FADING_MM) ** 2)) / weight.sum(axis=1, keepdims=True)
    return _System(mean, unit, shown, precision, near, weight)
