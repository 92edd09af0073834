"""Materials of meshes: skin, and the eyes, teeth and mouth of topologies that have them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.regions import ICT_SKIN, ICT_TOPOLOGY
from facedis_core.mesh.mesh import topology_id

LinearRGB = tuple[float, float, float]  # linear RGB, from 0 to 1

SKIN: Final[LinearRGB] = (0.70, 0.53, 0.44)
MOUTH: Final[LinearRGB] = (0.20, 0.075, 0.065)
GUMS: Final[LinearRGB] = (0.32, 0.13, 0.12)
TEETH: Final[LinearRGB] = (0.80, 0.74, 0.64)
SCLERA: Final[LinearRGB] = (0.78, 0.75, 0.72)
IRIS: Final[LinearRGB] = (0.16, 0.12, 0.09)
PUPIL: Final[LinearRGB] = (0.015, 0.015, 0.015)


class Part(NamedTuple):
    """Vertices from `first` up to `last`, exclusive, and their color; None = not drawn."""

    first: int
    last: int
    color: LinearRGB | None


# Topology id -> parts that are not skin; later ones lie within earlier ones.
PARTS: Final[Mapping[str, tuple[Part, ...]]] = {
    ICT_TOPOLOGY: (
        Part(ICT_SKIN, 14062, MOUTH),  # sockets of mouth and eyes
        Part(14062, 17039, GUMS),  # and the tongue
        Part(17039, 21451, TEETH),
        Part(21451, 22221, SCLERA),
        *(Part(*vertices, IRIS) for vertices in ((21451, 21548), (21836, 21932))),
        *(Part(*vertices, PUPIL) for vertices in ((21451, 21484), (21900, 21932))),
        Part(22221, 23021, None),  # inside of the eyeball
        Part(23021, 23791, SCLERA),
        *(Part(*vertices, IRIS) for vertices in ((23021, 23118), (23406, 23502))),
        *(Part(*vertices, PUPIL) for vertices in ((23021, 23054), (23470, 23502))),
        # inside of the eyeball; tear film, shadow planes and lashes are transparent textures
        Part(23791, 26719, None),
    )
}


class Materials(NamedTuple):
    """Colors of vertices (V, 3), linear RGB, and the triangles that are drawn (F', 3).

    `rows` (F',) are those of these triangles among all.
    """

    colors: NDArray[np.float32]
    triangles: NDArray[np.int32]
    rows: NDArray[np.intp]


def find_materials(triangles: NDArray[np.int32]) -> Materials | None:
    """The materials of a topology with parts that are known; None where all of it is skin."""
    parts = PARTS.get(topology_id(triangles))
    if parts is None:
        return None
    colors = np.tile(np.array(SKIN, np.float32), (parts[-1].last, 1))
    drawn = np.ones(len(colors), bool)
    for part in parts:
        if part.color is None:
            drawn[part.first : part.last] = False
        else:
            colors[part.first : part.last] = part.color
    rows = np.flatnonzero(drawn[triangles[:, 0]])
    return Materials(colors, triangles[rows], rows)
