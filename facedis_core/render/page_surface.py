"""Surface of meshes for the viewer of pages: triangles, lining of openings, and colors, as JSON."""

from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedis_core.render.materials import find_materials
from facedis_core.render.openings import line_openings


def page_surface(vertices: NDArray[Any], triangles: NDArray[np.int32]) -> dict[str, Any]:
    """What `FaceViewer.surface` of face_viewer.js reads.

    The openings are those of `vertices` (V, 3). Arrays are base64, of unsigned integers in
    little-endian order.

    Returns:
        `triangles` and `lining` (3 indices a triangle; the lining's new vertices follow the V
        vertices), `index_bytes` of these, and `colors` (linear RGB from 0 to 255, a vertex; None =
        all is skin).
    """
    materials = find_materials(triangles)
    drawn = triangles if materials is None else materials.triangles
    centres, lining = line_openings(vertices, drawn)
    kind = "<u2" if len(vertices) + len(centres) <= 1 << 16 else "<u4"
    colors = None if materials is None else np.round(materials.colors * 255).astype(np.uint8)
    return {
        "triangles": to_base64(drawn.astype(kind)),
        "lining": to_base64(lining.astype(kind)),
        "index_bytes": np.dtype(kind).itemsize,
        "colors": None if colors is None else to_base64(colors),
    }


def to_base64(array: NDArray[Any]) -> str:
    """The bytes of an array in C order, as base64."""
    return b64encode(array.tobytes()).decode()
