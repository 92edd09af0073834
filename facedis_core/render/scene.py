"""Faces to draw, one camera for all of them, and the layout of their contact sheet."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedis_core.mesh.mesh import Mesh
from facedis_core.pipeline.parallel import in_order
from facedis_core.render.background import LIGHT_GRAY, Background
from facedis_core.render.camera import FRONT, Camera
from facedis_core.render.color_bar import ColorBar
from facedis_core.render.color_scale import ColorScale
from facedis_core.render.contact_sheet import COLUMNS, ContactSheet, sheet_columns
from facedis_core.render.error_map import error_summary, vertex_errors
from facedis_core.render.materials import LinearRGB
from facedis_core.render.shading import Picture, VertexColoring, render_mesh
from facedis_core.render.surface_texture import SurfaceTexture
from facedis_core.render.upright import Up, upright

_CAMERA_ANGLES = 16  # angles of a turn that the camera is fitted to


@dataclass(frozen=True, eq=False)
class FaceToDraw:
    """A face, its views in degrees, and vertex values (V,) that color it instead of skin.

    Attributes:
        lined: line openings, as of `render_mesh`.
        texture: as of `render_mesh`.
    """

    mesh: Mesh
    views: Sequence[float]
    values: NDArray[np.float64] | None = None
    lined: bool = True
    texture: SurfaceTexture | None = None


@dataclass(frozen=True)
class FaceRenderer:
    """Renders faces by one camera; can be pickled for worker processes."""

    camera: Camera
    background: LinearRGB | None
    scale: ColorScale | None = None

    def __call__(self, face: FaceToDraw) -> Picture:
        """The views side by side, (height, views * width, 3), or 4 on a transparent background."""
        coloring = None
        if face.values is not None and self.scale is not None:
            coloring = VertexColoring(face.values, self.scale)
        views = [
            render_mesh(
                face.mesh,
                self.camera,
                view,
                coloring=coloring,
                background=self.background,
                lined=face.lined,
                texture=face.texture,
            )
            for view in face.views
        ]
        return np.concatenate(views, axis=1)


def render_faces(
    renderer: FaceRenderer, faces: Iterable[FaceToDraw], jobs: int = 1
) -> Iterator[Picture]:
    """One picture per face, in their order, by `jobs` processes."""
    return in_order(renderer, faces, jobs)


@dataclass(frozen=True)
class SceneOptions:
    """Views, size, labels and colors of drawn faces.

    Attributes:
        views: degrees; each face is drawn from all of them.
        size: height of one picture in pixels.
        columns: faces in a row; None = by the labels, else up to 6 pictures.
        labels: write names, and errors where there are any, below the faces.
        row_labels: from the top, at the left.
        column_labels: from the left, above the first row.
        scale: color scale of errors; None = 0 to a round number above the 99th percentile.
        up: axis that is up, as of `upright`.
    """

    views: Sequence[float] = (FRONT,)
    size: int = 256
    columns: int | None = None
    labels: bool = True
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    background: Background = LIGHT_GRAY
    scale: ColorScale | None = None
    up: Up = "auto"


@dataclass(frozen=True)
class Scene:
    """Faces with their renderer and the layout of their sheet."""

    renderer: FaceRenderer
    faces: Sequence[FaceToDraw]
    sheet: ContactSheet


def build_scene(
    meshes: Sequence[Mesh],
    options: SceneOptions,
    *,
    truths: Iterable[Mesh] | None = None,
    textures: Sequence[SurfaceTexture | None] = (),
    angles: Sequence[float] = (0.0,),
    one_by_one: bool = False,
) -> Scene:
    """The scene of some faces.

    Args:
        meshes: in the order of the sheet; they are drawn as of `upright`.
        options: views, size, labels and colors.
        truths: true meshes; faces are colored by their vertex errors in mm.
        textures: of the meshes; empty = none.
        angles: turns of all faces that the camera must frame.
        one_by_one: each face has a sheet of its own.

    Raises:
        UsageError: the labels do not fit, see `sheet_columns`.
        InputError: meshes and truths do not correspond, see `vertex_errors`.
    """
    columns = 1
    if not one_by_one:
        most = max(COLUMNS // len(options.views), 1)
        columns = sheet_columns(
            len(meshes), options.columns, options.row_labels, options.column_labels, most
        )
    captions = [mesh.name.replace("\n", " ") for mesh in meshes]
    bar = None
    shown = [upright(mesh, options.up) for mesh in meshes]
    faces = [
        FaceToDraw(mesh, options.views, texture=texture)
        for mesh, texture in zip(shown, textures or [None] * len(shown), strict=True)
    ]
    if truths is not None:
        errors = vertex_errors(meshes, truths)
        bar = ColorBar.of(options.scale or ColorScale.covering(errors), errors)
        captions = [f"{c}\n{error_summary(e)}" for c, e in zip(captions, errors, strict=True)]
        faces = [FaceToDraw(m, options.views, e) for m, e in zip(shown, errors, strict=True)]
    some = angles[:: max(len(angles) // _CAMERA_ANGLES, 1)]
    views = [view + angle for view in options.views for angle in some]
    camera = Camera.framing([mesh.vertices for mesh in shown], options.size, views)
    sheet = ContactSheet(
        columns,
        captions if options.labels else (),
        options.row_labels,
        options.column_labels,
        background=options.background,
        bar=bar,
    )
    renderer = FaceRenderer(camera, options.background.linear, bar.scale if bar else None)
    return Scene(renderer, faces, sheet)
