"""Point caches: the vertices of one mesh over time, which animation tools put onto that mesh.

PC2 (3ds Max, Blender) and MDD (LightWave, Maya, Blender): a header and the vertices of every frame
as float32. They hold no mesh; vertex order and number must be those of the mesh that they move.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np


class PointCache(NamedTuple):
    """A format.

    Attributes:
        header: from the number of frames, the number of vertices and the frames a second.
        order: byte order of the vertices, `<` or `>`.
    """

    header: Callable[[int, int, float], bytes]
    order: str


def point_cache(output: str) -> PointCache | None:
    """The format of a file by its suffix; None = no point cache.

    Example:
        >>> point_cache("speech.pc2").header(100, 26719, 30.0)[:11]
        b'POINTCACHE2'
    """
    return _FORMATS.get(Path(output).suffix.lower())


def _pc2(frames: int, vertices: int, fps: float) -> bytes:
    # version, vertices, number of the first frame, frames a sample, samples
    return struct.pack("<12siiffi", b"POINTCACHE2\0", 1, vertices, 0.0, 1.0, frames)


def _mdd(frames: int, vertices: int, fps: float) -> bytes:
    seconds = (np.arange(frames) / fps).astype(">f4")
    return struct.pack(">ii", frames, vertices) + seconds.tobytes()


_FORMATS: Final = {".pc2": PointCache(_pc2, "<"), ".mdd": PointCache(_mdd, ">")}
