"""Distances between faces of one topology."""

import numpy as np


def vertex_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance of every vertex, (..., V) mm, of faces (..., V, 3) that broadcast."""
    difference = np.subtract(a, b, dtype=np.float64)
    return np.sqrt(np.einsum("...i,...i->...", difference, difference))


def vertex_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """d(a, b), the mean over vertices of the Euclidean distance, (...) mm, of faces (..., V, 3)."""
    return vertex_distances(a, b).mean(-1)
