"""Doubt about the order of vertices: triangles far longer than those of a face."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Faces, whole heads and simplified ones have 1.0 to 1.6. Vertices that are one place off come to
# more than 5, those in any other order to some sqrt(F) / 4.
DOUBTED_LENGTH: Final = 4.0
_SAMPLED: Final = 1000  # triangles, evenly spaced


def relative_edge_length(
    vertices: NDArray[np.floating[Any]], triangles: NDArray[np.integer[Any]]
) -> float:
    """Mean edge length, relative to that of F equilateral triangles of a square sheet.

    Args:
        vertices: (V, 3); the sheet has the diagonal of their bounding box.
        triangles: (F, 3).
    """
    sampled = vertices[triangles[:: max(len(triangles) // _SAMPLED, 1)]]
    with np.errstate(all="ignore"):  # values may be too large or not finite; then it is NaN
        edges = np.linalg.norm(sampled - np.roll(sampled, 1, axis=1), axis=-1).mean()
        area = (np.ptp(vertices, axis=0) ** 2).sum() / 2 / len(triangles)
        return float(edges / np.sqrt(area * 4 / np.sqrt(3)))


def describe_order(
    name: str, vertices: NDArray[np.floating[Any]], triangles: NDArray[np.integer[Any]]
) -> str:
    """A line about a mesh whose vertices seem to be in another order; "" for others."""
    if not len(triangles):
        return ""
    length = relative_edge_length(vertices, triangles)
    if not length > DOUBTED_LENGTH:
        return ""
    return (
        f"the triangles of {name or 'the mesh'} are {length:.0f} times longer than a face's: "
        "vertices in another order?"
    )
