"""Completion: the whole head of a face whose other vertices are not known."""

from typing import Final

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
    from scipy.spatial import cKDTree

    mean = model.mean_face.astype(np.float64)
    basis = model.weights["basis"]
    unit = model.weights["deviation"].astype(np.float64) * model.scale  # mm
    shown = basis.reshape(len(basis), -1, 3)[:, known].reshape(len(basis), -1)
    shown = shown.astype(np.float64) * unit[:, None]
    offset = (face - mean)[known].ravel()
    precision = shown @ shown.T + NOISE_MM**2 * np.eye(len(basis))
    components = np.linalg.solve(precision, shown @ offset)
    head = mean + ((components * unit).astype(np.float32) @ basis.astype(np.float32)).reshape(-1, 3)
    missed = (face - head)[known]
    distance, near = cKDTree(mean[known]).query(mean[~known], NEIGHBOURS)
    weight = 1 / np.maximum(distance, 1e-6)
    weight *= np.exp(-((distance[:, :1] / FADING_MM) ** 2)) / weight.sum(axis=1, keepdims=True)
    head[~known] += (weight[:, :, None] * missed[near]).sum(axis=1)
    head[known] = face[known]
    return head
