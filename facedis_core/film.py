"""Pictures one after another: faces that turn or change, as GIF and WebP by Pillow, MP4 by PyAV.

Importing this module raises MissingExtra where Pillow is not installed.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from facedis_core.errors import MissingExtra, UsageError
from facedis_core.mesh import Mesh
from facedis_core.portraits import drawn
from facedis_core.render import Picture
from facedis_core.scene import Scene, Style, staged
from facedis_core.sheet import lines_of

try:
    from PIL import Image
except ModuleNotFoundError:
    raise MissingExtra("drawing pictures", "view") from None

Shown = Callable[[Iterable[Picture], int], Iterable[Picture]]

TURN: Final = 50.0  # degrees to each side: a face has no back

_SAMPLE: Final = 16  # frames that the common palette of a GIF is made from
_BITS: Final = 2  # last ones in which colours may differ and count as one
_CENTISECONDS: Final = 100  # the unit of a GIF's clock
_WEBP_QUALITY: Final = 80
_MP4_QUALITY: Final = "20"  # x264's constant rate factor: hardly told from the original


@dataclass(frozen=True)
class Motion:
    """How an animation moves.

    Attributes:
        turn: degrees by which faces turn to each side; 0 = one face after another instead, None =
            a single face turns, several come one after another.
        seconds: that a turn to both sides takes.
        bounce: after the last face go back the same way, so that nothing jumps.
    """

    turn: float | None = None
    seconds: float = 4.0
    fps: float = 25.0
    bounce: bool = False

    def angles(self, faces: int) -> list[float]:
        """Of a turn to one side, to the other and back, which ends as it begins; or none."""
        turn = self.turn
        if turn is None:
            turn = TURN if faces == 1 else 0
        frames = max(round(self.seconds * self.fps), 2)
        rounds = [2 * math.pi * frame / frames for frame in range(frames)]
        return [-turn * math.sin(angle) for angle in rounds] if turn else []


def frames(
    meshes: Sequence[Mesh],
    style: Style,
    motion: Motion | None,
    *,
    truths: Iterable[Mesh] | None = None,
    jobs: int = 1,
    shown: Shown = lambda pictures, total: pictures,
) -> Iterator[Picture]:
    """The frames of an animation, all of one size; a single one without `motion`.

    Args:
        meshes: the faces, each with its name.
        style: how they are shown.
        motion: None = a still picture.
        truths: as of `staged`.
        jobs: processes that draw.
        shown: given the pictures of single faces as they are drawn, and how many there will be.

    Raises what `staged` does, before anything is drawn.
    """
    if motion is None:
        return _turning(staged(meshes, style, truths=truths), [0.0], jobs, shown)
    if angles := motion.angles(len(meshes)):
        scene = staged(meshes, style, truths=truths, angles=angles)
        return _turning(scene, angles, jobs, shown)
    scene = staged(meshes, style, truths=truths, in_turn=True)
    return _one_by_one(scene, motion.bounce, jobs, shown)


def _turning(scene: Scene, angles: Sequence[float], jobs: int, shown: Shown) -> Iterator[Picture]:
    """The whole sheet, once an angle, by which every face is turned."""
    shots = (
        replace(portrait, views=[view + angle for view in portrait.views])
        for angle in angles
        for portrait in scene.portraits
    )
    faces = len(scene.portraits)
    pictures = iter(shown(drawn(scene.painter, shots, jobs), len(angles) * faces))
    for _ in angles:
        yield scene.sheet.of(list(islice(pictures, faces)))


def _one_by_one(scene: Scene, bounce: bool, jobs: int, shown: Shown) -> Iterator[Picture]:
    """A sheet a face, with its own caption."""
    camera, faces = scene.painter.camera, len(scene.portraits)
    panel = camera.width * len(scene.portraits[0].views)
    captions = scene.sheet.captions
    depth = lines_of(captions, camera.height, panel)
    sheets = [replace(scene.sheet, captions=[caption], depth=depth) for caption in captions]
    pictures = shown(drawn(scene.painter, scene.portraits, jobs), faces)
    done = []
    for picture, sheet in zip(pictures, sheets or [scene.sheet] * faces, strict=True):
        done.append(sheet.of([picture]))
        yield done[-1]
    yield from reversed(done[1:-1] if bounce else [])


def write_png(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
    """A single frame; the same picture gives the same bytes."""
    (picture,) = frames
    Image.fromarray(picture).save(stream, "PNG")


def write_gif(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
    """One palette for all frames, so that what rests does not flicker."""
    pictures = list(frames)
    palette = _colours(pictures).quantize(255, Image.Quantize.MEDIANCUT)
    # The paper, which a corner shows, keeps its very colour: a page around it has the same.
    paper = pictures[0][0, 0]
    palette.putpalette((palette.getpalette() or [])[: 255 * 3] + paper.tolist())
    images = []
    for picture in pictures:
        image = Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)
        image.paste(255, mask=Image.fromarray((picture == paper).all(-1)))
        images.append(image)
    ticks = max(round(_CENTISECONDS / fps), 2)  # viewers show faster ones at a tenth of a second
    images[0].save(
        stream,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=ticks * 1000 // _CENTISECONDS,
        loop=0,
        disposal=1,
    )


def _colours(pictures: Sequence[Picture]) -> Image.Image:
    """The colours of some of the pictures, each by the root of how often it is seen.

    By that itself a palette would have nothing for what is rare, such as the end of a bar.
    """
    some = np.concatenate(pictures[:: max(len(pictures) // _SAMPLE, 1)]).reshape(-1, 3)
    red, green, blue = (some >> _BITS).astype(np.uint32).T
    codes = red << 16 | green << 8 | blue
    _, first, count = np.unique(codes, return_index=True, return_counts=True)
    return Image.fromarray(np.repeat(some[first], np.sqrt(count).astype(int), axis=0)[None])


def write_webp(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
    """Frames may be transparent."""
    first, *others = (Image.fromarray(picture) for picture in frames)
    first.save(
        stream,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=round(1000 / fps),
        loop=0,
        quality=_WEBP_QUALITY,
        method=4,
    )


def write_mp4(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
    """H.264 that browsers and slides play; an odd row or column is left out."""
    from fractions import Fraction

    import av

    held = io.BytesIO()  # what the file begins with is written last, and a pipe cannot go back
    with av.open(held, "w", format="mp4") as container:
        video = None
        for picture in frames:
            even = picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2]
            if video is None:
                video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                video.height, video.width = even.shape[:2]
                video.pix_fmt = "yuv420p"
                video.options = {"crf": _MP4_QUALITY}
                video.codec_context.thread_count = 1  # the same frames, the same bytes
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode())
    stream.write(held.getvalue())


_Writer = Callable[[BinaryIO, Iterator[Picture], float], None]
FILMS: Final[dict[str, _Writer]] = {".gif": write_gif, ".webp": write_webp, ".mp4": write_mp4}
_STILL: Final[dict[str, _Writer]] = {"": write_png, ".png": write_png}


def writer_of(output: str, *, transparent: bool) -> tuple[_Writer, bool]:
    """What writes frames to an output of that name, and whether it takes more than one.

    Raises:
        UsageError: a name of another kind, or one of a kind that cannot be transparent.
        MissingExtra: it needs PyAV, which is not installed.
    """
    suffix = Path(output).suffix.lower()
    if suffix in _STILL:
        return _STILL[suffix], False
    if suffix not in FILMS:
        raise UsageError(
            f"{output} would hold no picture; expected a name that ends in .png, or in "
            f"{', '.join(FILMS)} for an animation"
        )
    if transparent and suffix != ".webp":
        raise UsageError(f"{output} cannot be transparent; use .webp or .png, or a --background")
    if suffix == ".mp4" and find_spec("av") is None:
        raise MissingExtra("writing .mp4", "video")
    return FILMS[suffix], True
