"""Faces on a sheet under one camera: how the figures of a report are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.camera import FRONT, Camera
from facedis_core.colours import Scale
from facedis_core.judged import Verdict
from facedis_core.legend import Bar
from facedis_core.lettering import letter_size
from facedis_core.mesh import Mesh
from facedis_core.portraits import Painter, Portrait, Watch, drawn
from facedis_core.render import BACKGROUND, Picture
from facedis_core.sheet import Sheet

_LETTERS_ACROSS: Final = 46  # widths of a sheet in heights of a letter
_LETTERS_IN_A_PICTURE: Final = 9


class Figure(NamedTuple):
    """A picture with a name for its file, what it is in a line, and what it shows."""

    key: str
    title: str
    caption: str
    picture: Picture


@dataclass(frozen=True)
class Look:
    """How figures are drawn.

    Attributes:
        size: height of a face in pixels.
        faces: how many best, average and worst ones.
        scale: of error maps; None = what the faces of a part need.
    """

    size: int = 240
    faces: int = 1
    scale: Scale | None = None


class Cell(NamedTuple):
    """A face (V, 3) mm of a sheet, and errors (V,) mm that are shown in place of its skin."""

    vertices: NDArray[Any]
    errors: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class Studio:
    """Where figures of a verdict are drawn.

    Attributes:
        watch: sees the pictures of a figure's single faces as they are drawn.
    """

    verdict: Verdict
    look: Look
    watch: Watch = lambda pictures, total: pictures

    def truths(self, rows: Sequence[int]) -> NDArray[Any]:
        """True faces (n, V, 3) mm."""
        return self.verdict.faces.read(np.array(rows))

    def sheet(
        self,
        cells: Sequence[Cell],
        *,
        headings: Sequence[str],
        row_labels: Sequence[str],
        captions: Sequence[str] = (),
        scale: Scale | None = None,
        views: Sequence[float] = (FRONT,),
    ) -> Picture:
        """A column a heading; other words as of `contact_sheet`, and a bar of the scale, if any."""
        triangles = self.verdict.faces.triangles
        camera = Camera.seeing([cell.vertices for cell in cells], self.look.size, views)
        portraits = [
            Portrait(Mesh(np.asarray(cell.vertices, np.float32), triangles, ""), views, cell.errors)
            for cell in cells
        ]
        painter = Painter(camera, BACKGROUND, scale)
        pictures = self.watch(drawn(painter, portraits), len(cells))
        errors = [cell.errors for cell in cells if cell.errors is not None]
        return Sheet(
            len(headings),
            captions,
            row_labels,
            headings,
            bar=Bar.of(scale, errors) if scale is not None else None,
            letters=_letters(camera, len(headings) * len(views)),
        ).of(list(pictures))


def _letters(camera: Camera, pictures: int) -> int:
    """The size of letters that can be read where a sheet of so many columns fills half a page."""
    wide = min(camera.width * pictures // _LETTERS_ACROSS, camera.width // _LETTERS_IN_A_PICTURE)
    return max(letter_size(camera.height), wide)
