"""Fast point feature histograms: what the surface around a point looks like, in any pose."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

RADIUS_MM: Final = 25.0
MOST_NEIGHBOURS: Final = 100
BINS: Final = 11


def point_features(
    points: NDArray[np.float64], normals: NDArray[np.float64], tree: cKDTree
) -> NDArray[np.float32]:
    """Fast point feature histograms (N, 33) of points with normals.

    Rusu, Blodow, Beetz 2009, "Fast point feature histograms (FPFH) for 3D registration": three
    angles between the frame of a point and the normal of each neighbour, in histograms, to which
    those of the neighbours are added with the inverse of their distance as weight. Each of the
    three histograms adds up to 1.

    Args:
        points: (N, 3) mm.
        normals: (N, 3), of unit length, all on one side.
        tree: of the points.
    """
    count = min(MOST_NEIGHBOURS, len(points))
    distance, index = tree.query(points, count, distance_upper_bound=RADIUS_MM)
    near = np.isfinite(distance) & (distance > 1e-9)
    neighbours = near.sum(axis=1)
    own, other = np.repeat(np.arange(len(points)), neighbours), index[near]
    length = distance[near].astype(np.float32)
    # by coordinate: many times faster than products along an inner axis of three
    line = [(p[other] - p[own]) / length for p in points.T.astype(np.float32)]
    u, n = ([x[which] for x in normals.T.astype(np.float32)] for which in (own, other))
    v = _cross(line, u)
    v_length = np.maximum(np.sqrt(_dot(v, v)), 1e-9)
    v = [x / v_length for x in v]
    angles = (_dot(v, n), _dot(u, line), np.arctan2(_dot(_cross(u, v), n), _dot(u, n)) / np.pi)
    counts = []
    for angle in angles:
        bins = np.clip(((angle + 1) / 2 * BINS).astype(np.int32), 0, BINS - 1)
        found = np.bincount(own * BINS + bins, minlength=len(points) * BINS)
        counts.append(found.reshape(-1, BINS))
    simple = np.concatenate(counts, axis=1) / np.maximum(neighbours, 1)[:, None].astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(neighbours)])
    nearness = csr_matrix((1 / length, other, starts), (len(points), len(points)))
    weight = np.maximum(np.asarray(nearness.sum(axis=1)), 1e-9)
    total = (simple + (nearness @ simple) / weight).reshape(-1, len(angles), BINS)
    total /= np.maximum(total.sum(axis=2, keepdims=True), 1e-9)
    return total.reshape(len(points), -1).astype(np.float32)


def _dot(a: list[NDArray[Any]], b: list[NDArray[Any]]) -> NDArray[Any]:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: list[NDArray[Any]], b: list[NDArray[Any]]) -> list[NDArray[Any]]:
    turns = ((1, 2), (2, 0), (0, 1))
    return [a[i] * b[j] - a[j] * b[i] for i, j in turns]
