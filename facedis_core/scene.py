"""What a picture or a film shows: the faces, one camera for all of them, and how they stand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from facedis_core.background import LIGHT_GRAY, Background
from facedis_core.camera import FRONT, Camera
from facedis_core.color_bar import ColorBar
from facedis_core.color_scale import ColorScale
from facedis_core.contact_sheet import COLUMNS, ContactSheet, sheet_columns
from facedis_core.draw_faces import FaceRenderer, FaceToDraw
from facedis_core.error_map import error_summary, vertex_errors
from facedis_core.mesh import Mesh

_MAX_ANGLES = 16  # angles of a turn that the camera is made for


@dataclass(frozen=True)
class SceneOptions:
    """How faces are to be shown.

    Attributes:
        views: degrees; every face is seen from all of them.
        size: height of one picture in pixels.
        columns: faces in a row; None = what the labels ask for, else some six pictures.
        labels: whether names, and distances where there are any, stand below.
        row_labels: from the top.
        column_labels: above the first row, from the left.
        scale: of distances; None = what they need.
    """

    views: Sequence[float] = (FRONT,)
    size: int = 256
    columns: int | None = None
    labels: bool = True
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    background: Background = LIGHT_GRAY
    scale: ColorScale | None = None


@dataclass(frozen=True)
class Scene:
    """Faces ready to be drawn."""

    renderer: FaceRenderer
    faces: Sequence[FaceToDraw]
    sheet: ContactSheet


def build_scene(
    meshes: Sequence[Mesh],
    options: SceneOptions,
    *,
    truths: Iterable[Mesh] | None = None,
    angles: Sequence[float] = (0.0,),
    one_by_one: bool = False,
) -> Scene:
    """The scene of these faces.

    Args:
        meshes: in the order of the sheet.
        options: how they are shown.
        truths: what they are compared with; their colors are the distances to it in mm.
        angles: by which all faces will be turned, so that they stay whole in their pictures.
        one_by_one: one face after another, not side by side.

    Raises:
        UsageError: as of `sheet_columns`.
        InputError: as of `vertex_errors`.
    """
    columns = 1
    if not one_by_one:
        most = max(COLUMNS // len(options.views), 1)
        columns = sheet_columns(
            len(meshes), options.columns, options.row_labels, options.column_labels, most
        )
    captions = [mesh.name.replace("\n", " ") for mesh in meshes]  # one line each
    bar = None
    faces = [FaceToDraw(mesh, options.views) for mesh in meshes]
    if truths is not None:
        values = vertex_errors(meshes, truths)
        bar = ColorBar.of(options.scale or ColorScale.covering(values), values)
        pairs = zip(captions, values, strict=True)
        captions = [f"{caption}\n{error_summary(distance)}" for caption, distance in pairs]
        faces = [FaceToDraw(m, options.views, d) for m, d in zip(meshes, values, strict=True)]
    some = angles[:: max(len(angles) // _MAX_ANGLES, 1)]
    seen = [view + angle for view in options.views for angle in some]
    camera = Camera.framing([mesh.vertices for mesh in meshes], options.size, seen)
    sheet = ContactSheet(
        columns,
        captions if options.labels else (),
        options.row_labels,
        options.column_labels,
        background=options.background,
        bar=bar,
    )
    return Scene(
        FaceRenderer(camera, options.background.linear, bar.scale if bar else None), faces, sheet
    )
