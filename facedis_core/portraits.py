"""Faces as pictures side by side: what there is to draw, and a panel of all its views of each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.camera import Camera
from facedis_core.colours import Scale
from facedis_core.decoding import Decoder, sound_rows
from facedis_core.inference import Part, load_model
from facedis_core.latents import LatentSource
from facedis_core.mesh import Mesh
from facedis_core.render import Linear, Paint, Picture, render
from facedis_core.workers import in_order


def meshes_of_latents(
    model: str | None, part: Part = "full"
) -> Callable[[BinaryIO, str], Iterator[Mesh]]:
    """What makes faces of the latents in a stream; the model is loaded when there are any.

    Args:
        model: as of `load_model`.
        part: what of each face.
    """

    def meshes(stream: BinaryIO, source: str) -> Iterator[Mesh]:
        decoder = Decoder(load_model(model))
        for rows in sound_rows(LatentSource(stream, source), decoder.model, "-"):
            yield from (decoder.mesh(rows, row, part) for row in range(len(rows)))

    return meshes


# Passes on the pictures of single faces as they are drawn; it is told how many there will be.
Watch = Callable[[Iterable[Picture], int], Iterable[Picture]]


@dataclass(frozen=True, eq=False)
class Portrait:
    """A face, the views it is shown from, and values (V,) that are shown in place of its skin."""

    mesh: Mesh
    views: Sequence[float]
    values: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Painter:
    """Draws portraits; can be sent to another process."""

    camera: Camera
    background: Linear | None
    scale: Scale | None = None

    def __call__(self, portrait: Portrait) -> Picture:
        """The views side by side, (height, views * width, 3), or 4 on a transparent background."""
        paint = None
        if portrait.values is not None and self.scale is not None:
            paint = Paint(portrait.values, self.scale)
        views = [
            render(portrait.mesh, self.camera, view, paint=paint, background=self.background)
            for view in portrait.views
        ]
        return np.concatenate(views, axis=1)


def drawn(painter: Painter, portraits: Iterable[Portrait], jobs: int = 1) -> Iterator[Picture]:
    """A panel a portrait, in their order, by `jobs` processes."""
    return in_order(painter, portraits, jobs)
