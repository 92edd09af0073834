"""Vertex distances between faces of one topology."""

import numpy as np


def vertex_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance (..., V) mm of each vertex of a to that of b, both (..., V, 3) mm.

    The arrays may broadcast; the result is float64.
    """
    difference = np.subtract(a, b, dtype=np.float64)
    return np.sqrt(np.einsum("...i,...i->...", difference, difference))


def vertex_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """d(a, b) = mean over vertices of |a_v - b_v|, (...) mm, of faces (..., V, 3) mm."""
    return vertex_distances(a, b).mean(-1)
