"""Regions of a face in any topology, by its geometry and by how far expressions move it.

y is up and the face looks towards +z.
"""

from typing import Final

import numpy as np

RIM_RINGS: Final = 2  # edges from an open edge
MIDLINE: Final = 1 / 6  # share of the face's width, to each side of its middle
MOVING: Final = 0.1  # share of the vertices


def find_regions(
    mean_face: np.ndarray,
    triangles: np.ndarray,
    motion: np.ndarray | None,
    face: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Vertices (V,) bool of each region by its name; regions without vertices are left out.

    Args:
        mean_face: (V, 3) mm.
        triangles: (F, 3).
        motion: (V,) mean distance by which expressions move each vertex; None = unknown.
        face: (V,) bool, the face of a whole head: parts of the face are found on it, and the rest
            is a region; None = all vertices.
    """
    inside = np.ones(len(mean_face), bool) if face is None else face
    x, y = mean_face[:, 0], mean_face[:, 1]
    low, height = y[inside].min(), max(float(np.ptp(y[inside])), 1e-9)
    middle, width = (x[inside].min() + x[inside].max()) / 2, max(float(np.ptp(x[inside])), 1e-9)
    third = (y - low) / height * 3
    from_middle = np.abs(x - middle) / width
    rim = near_rim(len(mean_face), triangles[inside[triangles].all(axis=1)])
    found = {
        "upper third": third >= 2,
        "middle third": (third >= 1) & (third < 2),
        "lower third": third < 1,
        "midline": from_middle <= MIDLINE,
        "sides": from_middle > MIDLINE,
        "rim": rim,
        "inside": ~rim,
    }
    if motion is not None and np.ptp(motion[inside]) > 0:
        count = max(round(MOVING * int(inside.sum())), 1)
        order = np.flatnonzero(inside)[np.argsort(motion[inside], kind="stable")]
        for name, chosen in (("moves most", order[-count:]), ("moves least", order[:count])):
            found[name] = np.isin(np.arange(len(motion)), chosen)
    found = {name: chosen & inside for name, chosen in found.items()}
    if not inside.all():
        found = {"face": inside, **found, "rest of the head": ~inside}
    return {name: chosen for name, chosen in found.items() if chosen.any()}


def near_rim(count: int, triangles: np.ndarray) -> np.ndarray:
    """Mask (V,) of the vertices that are at most RIM_RINGS edges from an open edge."""
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges, uses = np.unique(np.sort(sides, axis=1), axis=0, return_counts=True)
    near = np.zeros(count, bool)
    near[edges[uses == 1].ravel()] = True
    for _ in range(RIM_RINGS):
        near[edges[near[edges].any(axis=1)].ravel()] = True
    return near
