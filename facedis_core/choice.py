"""Which faces stand for a set: by their errors, or as far apart as faces can be."""

from typing import NamedTuple

import numpy as np


class Extremes(NamedTuple):
    """Places of faces in a list of errors: the least first, the nearest to the mean, the worst."""

    best: np.ndarray
    average: np.ndarray
    worst: np.ndarray


def extremes(errors: np.ndarray, count: int) -> Extremes:
    """`count` faces of each kind, none twice; fewer of each where there are fewer than thrice that.

    Args:
        errors: (n,); one that is not finite is of no face.
        count: at least 1.

    Ties are decided by the order of the list.
    """
    order = np.argsort(errors, kind="stable")
    order = order[np.isfinite(errors[order])]
    count = min(count, max(len(order) // 3, 1))
    best, rest = order[:count], order[count:]
    worst, rest = rest[-count:][::-1], rest[:-count]
    apart = np.abs(errors[rest] - errors[order].mean()) if len(order) else rest
    nearest = rest[np.argsort(apart, kind="stable")[:count]]
    return Extremes(best, nearest[np.argsort(errors[nearest], kind="stable")], worst)


def far_apart(faces: np.ndarray, count: int, start: np.ndarray) -> list[int]:
    """Up to `count` of the faces (n, V, 3), each the farthest from `start` (V, 3) and those before.

    The distance is the mean square one of the vertices. What is equal to one before is left out.
    """
    flat = faces.reshape(len(faces), -1).astype(np.float64)

    def from_face(face: np.ndarray) -> np.ndarray:
        return np.square(flat - face.reshape(-1)).mean(axis=1)

    chosen: list[int] = []
    nearest = from_face(start)
    while len(chosen) < min(count, len(faces)) and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, from_face(flat[chosen[-1]]))
    return chosen


def evenly(items: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` of the items, the first and the last among them, equally far apart."""
    count = min(count, len(items))
    return items[np.round(np.linspace(0, len(items) - 1, count)).astype(int)]
