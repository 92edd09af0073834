"""What a picture or a film shows: the faces, one camera for all of them, and how they stand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from facedis_core.camera import FRONT, Camera
from facedis_core.colours import Scale
from facedis_core.heat import distances, summary
from facedis_core.legend import Bar
from facedis_core.mesh import Mesh
from facedis_core.paper import PLAIN, Paper
from facedis_core.portraits import Painter, Portrait
from facedis_core.sheet import COLUMNS, Sheet, sheet_columns

_SEEN = 16  # angles of a turn that the camera is made for


@dataclass(frozen=True)
class Style:
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
    paper: Paper = PLAIN
    scale: Scale | None = None


@dataclass(frozen=True)
class Scene:
    """Faces ready to be drawn."""

    painter: Painter
    portraits: Sequence[Portrait]
    sheet: Sheet


def staged(
    meshes: Sequence[Mesh],
    style: Style,
    *,
    truths: Iterable[Mesh] | None = None,
    angles: Sequence[float] = (0.0,),
    in_turn: bool = False,
) -> Scene:
    """The scene of these faces.

    Args:
        meshes: in the order of the sheet.
        style: how they are shown.
        truths: what they are compared with; their colours are the distances to it in mm.
        angles: by which all faces will be turned, so that they stay whole in their pictures.
        in_turn: one face after another, not side by side.

    Raises:
        UsageError: as of `sheet_columns`.
        InputError: as of `distances`.
    """
    columns = 1
    if not in_turn:
        most = max(COLUMNS // len(style.views), 1)
        columns = sheet_columns(
            len(meshes), style.columns, style.row_labels, style.column_labels, most
        )
    captions = [mesh.name.replace("\n", " ") for mesh in meshes]  # one line each
    bar = None
    portraits = [Portrait(mesh, style.views) for mesh in meshes]
    if truths is not None:
        values = distances(meshes, truths)
        bar = Bar.of(style.scale or Scale.around(values), values)
        pairs = zip(captions, values, strict=True)
        captions = [f"{caption}\n{summary(distance)}" for caption, distance in pairs]
        portraits = [Portrait(m, style.views, d) for m, d in zip(meshes, values, strict=True)]
    some = angles[:: max(len(angles) // _SEEN, 1)]
    seen = [view + angle for view in style.views for angle in some]
    camera = Camera.seeing([mesh.vertices for mesh in meshes], style.size, seen)
    sheet = Sheet(
        columns,
        captions if style.labels else (),
        style.row_labels,
        style.column_labels,
        paper=style.paper,
        bar=bar,
    )
    return Scene(Painter(camera, style.paper.linear, bar.scale if bar else None), portraits, sheet)
