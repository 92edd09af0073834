"""Files of pictures and of animations: PNG, GIF and WebP by Pillow, MP4 by PyAV.

Importing this module raises MissingExtra where Pillow is not installed.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from facedis_core.errors import MissingExtra, UsageError
from facedis_core.shading import Picture

try:
    from PIL import Image
except ModuleNotFoundError:
    raise MissingExtra("drawing pictures", "view") from None

_SAMPLE: Final = 16  # frames that the common palette of a GIF is made from
_BITS: Final = 2  # last ones in which colors may differ and count as one
_WEBP_QUALITY: Final = 80
_MP4_QUALITY: Final = "20"  # x264's constant rate factor: hardly told from the original


class ImageFormat(NamedTuple):
    """A kind of file.

    Attributes:
        encode: frames, so many a second, into a stream; the same frames give the same bytes.
        moves: whether it takes more than one.
        ticks: of its clock in a second; None = it keeps any time.
        widest: pixels that a side may have; None = any number.
        opaque: whether every pixel has a color.
    """

    encode: Callable[[BinaryIO, Iterator[Picture], float], None]
    moves: bool = True
    ticks: int | None = None
    widest: int | None = None
    opaque: bool = False

    def write(self, stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
        """Write the frames, so many a second; UsageError where they are larger than it takes."""
        self.encode(stream, map(self._checked, frames), fps)

    def _checked(self, frame: Picture) -> Picture:
        height, width = frame.shape[:2]
        if self.widest is not None and max(height, width) > self.widest:
            raise UsageError(
                f"frames of {width} x {height} pixels, expected {self.widest} at most a side; "
                "use other --columns, a smaller --size or fewer faces, or write a .png"
            )
        return frame

    def fps(self, wished: float) -> float:
        """The frames a second that its clock can keep, the nearest to those wished for."""
        return wished if self.ticks is None else self.ticks / max(round(self.ticks / wished), 1)


def write_png(stream: BinaryIO, picture: Picture) -> None:
    """A picture; the same one gives the same bytes."""
    Image.fromarray(picture).save(stream, "PNG")


def _write_still(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
    (picture,) = frames
    write_png(stream, picture)


def _write_gif(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
    """One palette for all frames, so that what rests does not flicker."""
    pictures = list(frames)
    palette = _colors(pictures).quantize(255, Image.Quantize.MEDIANCUT)
    # The paper, which a corner shows, keeps its very color: a page around it has the same.
    paper = pictures[0][0, 0]
    colors = palette.getpalette() or []  # fewer than 255 where there are no more
    palette.putpalette(colors + paper.tolist())
    images = []
    for picture in pictures:
        image = Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)
        image.paste(len(colors) // 3, mask=Image.fromarray((picture == paper).all(-1)))
        images.append(image)
    images[0].save(
        stream,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=round(1000 / fps),
        loop=0,
        disposal=1,
    )


def _colors(pictures: Sequence[Picture]) -> Image.Image:
    """The colors of some of the pictures, each by the root of how often it is seen.

    By that itself a palette would have nothing for what is rare, such as the end of a bar.
    """
    some = np.concatenate(pictures[:: max(len(pictures) // _SAMPLE, 1)]).reshape(-1, 3)
    red, green, blue = (some >> _BITS).astype(np.uint32).T
    codes = red << 16 | green << 8 | blue
    _, first, count = np.unique(codes, return_index=True, return_counts=True)
    return Image.fromarray(np.repeat(some[first], np.sqrt(count).astype(int), axis=0)[None])


def _write_webp(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
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


def _write_mp4(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
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


_STILL: Final = ImageFormat(_write_still, moves=False)
FORMATS: Final = {
    "": _STILL,
    ".png": _STILL,
    ".gif": ImageFormat(_write_gif, ticks=100, widest=(1 << 16) - 1, opaque=True),
    ".webp": ImageFormat(_write_webp, ticks=1000, widest=(1 << 14) - 1),
    ".mp4": ImageFormat(_write_mp4, widest=1 << 14, opaque=True),
}


def image_format(output: str, *, transparent: bool) -> ImageFormat:
    """What writes to an output of that name.

    Raises:
        UsageError: a name of another kind, or one of a kind that cannot be transparent.
        MissingExtra: it needs PyAV, which is not installed.
    """
    suffix = Path(f"_{Path(output).name}").suffix.lower()  # `.gif` is a suffix, too
    kind = FORMATS.get(suffix)
    if kind is None:
        moving = ", ".join(suffix for suffix, kind in FORMATS.items() if kind.moves)
        raise UsageError(
            f"{output} would hold no picture; expected a name that ends in .png, or in {moving} "
            "for an animation"
        )
    if transparent and kind.opaque:
        raise UsageError(f"{output} cannot be transparent; use .webp or .png, or a --background")
    if suffix == ".mp4" and find_spec("av") is None:
        raise MissingExtra("writing .mp4", "video")
    return kind
