"""Regions of a face in any topology: parts such as lips and jaw, or thirds where no nose is found.

y is up and the face looks towards +z.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

# Positions are relative to the tip of the nose, in mm of an adult face. A nose is narrow: beside
# its tip the face lies farther back, as beside no other point that may be the foremost of a head.
_BESIDE_TIP: Final = (14.0, 26.0)  # to each side
_TIP_HEIGHT: Final = 8.0  # above and below
_LEAST_PROTRUSION: Final = 6.0
_FACE_HEIGHT: Final = 40.0  # least height of the face above the tip, and below it
_BACK: Final = 110.0  # behind the tip, where neither face nor ear is

# A vertex belongs to the first part whose box it is in: distance from the midline, then height.
_PARTS: Final = (
    ("nose", (0.0, 18.0), (-14.0, 18.0)),
    ("nose", (0.0, 11.0), (18.0, 40.0)),
    ("lips", (0.0, 28.0), (-52.0, -14.0)),
    ("eyes", (0.0, 50.0), (18.0, 45.0)),
    ("brows", (0.0, 50.0), (45.0, 70.0)),
    ("chin", (0.0, 28.0), (-95.0, -52.0)),
    ("jaw", (0.0, np.inf), (-95.0, -45.0)),
    ("neck", (0.0, np.inf), (-np.inf, -95.0)),
    ("cheeks", (0.0, 62.0), (-45.0, 18.0)),
    ("forehead", (0.0, 62.0), (70.0, np.inf)),
)
_ELSEWHERE: Final = "sides"
_HEIGHTS: Final = ("lower", "middle", "upper")
_SIDES: Final = ("left", "center", "right")  # as one sees the face


def face_regions(vertices: NDArray[np.floating]) -> dict[str, NDArray[np.bool_]]:
    """Vertices (V,) bool of each region; every vertex is in one, and no region is empty.

    Args:
        vertices: (V, 3) mm, of a mean face.
    """
    tip = nose_tip(vertices)
    names = _thirds(vertices) if tip is None else _parts(vertices - tip)
    return {name: names == name for name in dict.fromkeys(names.tolist())}


def nose_tip(vertices: NDArray[np.floating]) -> NDArray[np.floating] | None:
    """The foremost vertex, if it is amid the face, which lies farther back on both sides of it."""
    tip = vertices[np.argmax(vertices[:, 2])]
    x, y, z = (vertices - tip).T
    if min(y.max(), -y.min()) < _FACE_HEIGHT:
        return None
    for side in (x, -x):
        near, far = _BESIDE_TIP
        beside = (side > near) & (side < far) & (np.abs(y) < _TIP_HEIGHT)
        if not beside.any() or z[beside].mean() > -_LEAST_PROTRUSION:
            return None
    return tip


def _parts(relative: NDArray[np.floating]) -> NDArray[np.str_]:
    """Names (V,) of parts of the face, of vertices relative to the tip of the nose."""
    x, y, z = relative.T
    boxes = [
        (np.abs(x) >= near) & (np.abs(x) < far) & (y >= low) & (y < high)
        for _, (near, far), (low, high) in _PARTS
    ]
    behind = z < -_BACK
    names = ["back of the head", *(name for name, *_ in _PARTS)]
    return np.select([behind, *boxes], names, _ELSEWHERE)


def _thirds(vertices: NDArray[np.floating]) -> NDArray[np.str_]:
    """Names (V,) of ninths of the face, by height and side."""
    low = vertices.min(axis=0)
    size = np.maximum(vertices.max(axis=0) - low, 1e-9)
    third = np.minimum((vertices - low) / size * 3, 2).astype(int)
    names = [[f"{height} {side}" for side in _SIDES] for height in _HEIGHTS]
    return np.array(names)[third[:, 1], third[:, 0]]
