"""Central faces of one person's faces: the medoid, and per vertex the centre of power 0.5."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.geometry.distances import vertex_distance

POWER: Final = 0.5  # of the distances whose sum the centre makes least
# Added to distances, mm: with a power below 1 each face would be a local minimum. Vertices within
# the noise of scans are one place.
SMOOTHING_MM: Final = 0.1
# On benchmark faces, ten times as many steps move the centre 0.001 mm nearer to the neutral.
MEDIAN_STEPS: Final = 10
CENTRE_STEPS: Final = 30
BLOCK_VALUES: Final = 1 << 19  # coordinates of all faces in a block: 2 MB in float32


def medoid(faces: np.ndarray) -> int:
    """Number of the face with the least sum of vertex distances d to the others; first of ties.

    Exact without all pairs: by the triangle inequality, the sum s_j of a face j is at least
    |s_i - n d(i, j)| (Newling and Fleuret 2017, "A sub-quadratic exact medoid algorithm").

    Args:
        faces: (n, V, 3) mm, n > 0.
    """
    count = len(faces)
    block = max(1, BLOCK_VALUES // (6 * faces.shape[1]))  # float64, and a difference

    def distances(target: np.ndarray) -> np.ndarray:
        parts = range(0, count, block)
        return np.concatenate([vertex_distance(faces[k : k + block], target) for k in parts])

    bound = np.zeros(count)
    best, least = 0, np.inf
    # the faces nearest to the mean first: their sums are small, which rules out most others
    for face in np.argsort(distances(faces.mean(axis=0)), kind="stable"):
        if bound[face] > least * (1 + 1e-9):
            continue
        distance = distances(faces[face])
        total = float(distance.sum())
        if total < least or (total == least and face < best):
            best, least = int(face), total
        np.maximum(bound, np.abs(total - count * distance), out=bound)
    return best


def power_centre(faces: NDArray[np.floating]) -> NDArray[np.floating]:
    """Per vertex the point c of least sum of (|x - c|^2 + SMOOTHING_MM^2)^(POWER / 2), (V, 3) mm.

    A local minimum by iteratively reweighted least squares from the geometric median; no step
    increases the sum. Where a vertex rests in several faces, it stays nearer to that place than the
    mean or the median.

    Args:
        faces: (n, V, 3) mm, n > 0; computed and returned in their precision.
    """
    centre = np.empty_like(faces[0])
    block = max(1, BLOCK_VALUES // (3 * len(faces)))
    for start in range(0, faces.shape[1], block):
        part = faces[:, start : start + block]
        point = part.mean(axis=0)
        for power, steps in ((1.0, MEDIAN_STEPS), (POWER, CENTRE_STEPS)):
            for _ in range(steps):
                offset = part - point
                square = np.einsum("kvi,kvi->kv", offset, offset) + SMOOTHING_MM**2
                weight = square ** (power / 2 - 1)
                weight /= weight.sum(axis=0)
                point = point + np.einsum("kv,kvi->vi", weight, offset)
        centre[start : start + block] = point
    return centre
