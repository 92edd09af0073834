"""Faces as pictures side by side: what there is to draw, and a panel of all its views of each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.camera import Camera
from facedis_core.color_scale import ColorScale
from facedis_core.csv_text import brief
from facedis_core.decoding import Decoder, sound_rows
from facedis_core.errors import InputError
from facedis_core.inference import Model, Part, load_model
from facedis_core.latents import LatentSource
from facedis_core.mesh import Mesh
from facedis_core.shading import LinearRGB, Picture, VertexColoring, render_mesh
from facedis_core.workers import in_order


class ModelMeshes:
    """Makes faces of what has no surface: of latents, and of vertices without triangles.

    Attributes:
        model_used: whether there was any, and so a model was needed.
    """

    def __init__(self, model: str | None, part: Part = "full") -> None:
        """`model` as of `load_model`, which is asked when it is needed; `part` of latents."""
        self._name, self._part = model, part
        self.model_used = False

    @cached_property
    def _model(self) -> Model:
        self.model_used = True
        return load_model(self._name)

    def decode(self, stream: BinaryIO, source: str) -> Iterator[Mesh]:
        """The faces of the latents in a stream; raises what `sound_rows` does."""
        decoder = Decoder(self._model)
        for rows in sound_rows(LatentSource(stream, source), decoder.model, "-"):
            yield from (decoder.mesh(rows, row, self._part) for row in range(len(rows)))

    def with_triangles(self, mesh: Mesh) -> Mesh:
        """The mesh with the model's triangles, if it has none and as many vertices as the model.

        Raises:
            InputError: it has none, and not so many.
        """
        if len(mesh.triangles):
            return mesh
        if len(mesh.vertices) != self._model.config.vertices:
            raise InputError(
                f"{brief(mesh.name) if mesh.name else 'mesh'} has {len(mesh.vertices)} vertices "
                f"and no triangles, and model {self._model.source} has "
                f"{self._model.config.vertices}; give a mesh with triangles, or the --model that "
                "its vertices are of"
            )
        return replace(mesh, triangles=self._model.triangles)


# Passes on the pictures of single faces as they are drawn; it is told how many there will be.
ProgressWrapper = Callable[[Iterable[Picture], int], Iterable[Picture]]


@dataclass(frozen=True, eq=False)
class FaceToDraw:
    """A face, the views it is shown from, and values (V,) that are shown in place of its skin."""

    mesh: Mesh
    views: Sequence[float]
    values: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class FaceRenderer:
    """Draws faces; can be sent to another process."""

    camera: Camera
    background: LinearRGB | None
    scale: ColorScale | None = None

    def __call__(self, face: FaceToDraw) -> Picture:
        """The views side by side, (height, views * width, 3), or 4 on a transparent background."""
        coloring = None
        if face.values is not None and self.scale is not None:
            coloring = VertexColoring(face.values, self.scale)
        views = [
            render_mesh(face.mesh, self.camera, view, coloring=coloring, background=self.background)
            for view in face.views
        ]
        return np.concatenate(views, axis=1)


def draw_faces(
    renderer: FaceRenderer, faces: Iterable[FaceToDraw], jobs: int = 1
) -> Iterator[Picture]:
    """A panel a face, in their order, by `jobs` processes."""
    return in_order(renderer, faces, jobs)
