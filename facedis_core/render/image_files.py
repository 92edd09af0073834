"""Image and animation files: PNG, GIF and WebP by Pillow, MP4 by PyAV.

Importing this module raises UsageError where Pillow is not installed.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from facedis_core.errors import ErrorCode, UsageError, missing_extra
from facedis_core.render.shading import Picture

try:
    from PIL import Image
except ModuleNotFoundError:
    raise missing_extra("drawing pictures", "view") from None

_PALETTE_FRAMES: Final = 16  # frames that the common palette of a GIF is made from
_PALETTE_SHIFT: Final = 2  # low bits that are ignored when colors are counted
_WEBP_QUALITY: Final = 80
_MP4_QUALITY: Final = "20"  # constant rate factor of x264: hardly any visible loss


class ImageFormat(NamedTuple):
    """A file format.

    Attributes:
        encode: writes frames at a frame rate into a stream; same frames, same bytes.
        animated: takes more than one frame.
        ticks: resolution of its frame times per second; None = any time.
        max_side: largest width and height in pixels; None = no limit.
        opaque: has no transparency.
    """

    encode: Callable[[BinaryIO, Iterator[Picture], float], None]
    animated: bool = True
    ticks: int | None = None
    max_side: int | None = None
    opaque: bool = False

    def write(self, stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
        """Write the frames; UsageError where they are larger than `max_side`."""
        self.encode(stream, map(self._checked, frames), fps)

    def _checked(self, frame: Picture) -> Picture:
        height, width = frame.shape[:2]
        if self.max_side is not None and max(height, width) > self.max_side:
            raise UsageError(
                f"frames of {width} x {height} pixels, expected at most {self.max_side} per side; "
                "use other --columns, a smaller --size or fewer faces, or write a .png",
                ErrorCode.OPTION_VALUE,
            )
        return frame

    def nearest_fps(self, fps: float) -> float:
        """The frame rate nearest to `fps` that the format can store."""
        return fps if self.ticks is None else self.ticks / max(round(self.ticks / fps), 1)


def write_png(stream: BinaryIO, picture: Picture) -> None:
    """Write a picture as PNG; the same picture gives the same bytes."""
    Image.fromarray(picture).save(stream, "PNG")


def _write_still(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
    (picture,) = frames
    write_png(stream, picture)


def _write_gif(stream: BinaryIO, frames: Iterator[Picture], fps: float) -> None:
    """One palette for all frames, so that still parts do not flicker."""
    pictures = list(frames)
    palette = _common_colors(pictures).quantize(255, Image.Quantize.MEDIANCUT)
    # The background, seen in a corner, keeps its exact color, which a page around it may have.
    background = pictures[0][0, 0]
    colors = palette.getpalette() or []
    palette.putpalette(colors + background.tolist())
    images = []
    for picture in pictures:
        image = Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)
        image.paste(len(colors) // 3, mask=Image.fromarray((picture == background).all(-1)))
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


def _common_colors(pictures: Sequence[Picture]) -> Image.Image:
    """Colors of some of the pictures, each repeated by the square root of its frequency.

    By plain frequency a palette would lack rare colors, such as the ends of a color bar.
    """
    some = np.concatenate(pictures[:: max(len(pictures) // _PALETTE_FRAMES, 1)]).reshape(-1, 3)
    red, green, blue = (some >> _PALETTE_SHIFT).astype(np.uint32).T
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
    """H.264 as browsers play it; an odd last row or column is cut off."""
    from fractions import Fraction

    import av

    held = io.BytesIO()  # the start of the file is written last, and a pipe cannot seek
    with av.open(held, "w", format="mp4") as container:
        video = None
        for picture in frames:
            even = picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2]
            if video is None:
                video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                video.height, video.width = even.shape[:2]
                video.pix_fmt = "yuv420p"
                video.options = {"crf": _MP4_QUALITY}
                video.codec_context.thread_count = 1  # same frames, same bytes
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode())
    stream.write(held.getvalue())


_STILL: Final = ImageFormat(_write_still, animated=False)
FORMATS: Final = {
    "": _STILL,
    ".png": _STILL,
    ".gif": ImageFormat(_write_gif, ticks=100, max_side=(1 << 16) - 1, opaque=True),
    ".webp": ImageFormat(_write_webp, ticks=1000, max_side=(1 << 14) - 1),
    ".mp4": ImageFormat(_write_mp4, max_side=1 << 14, opaque=True),
}


def image_format(output: str, *, transparent: bool) -> ImageFormat:
    """The format of an output, by the suffix of its name.

    Raises:
        UsageError: an unknown suffix, a format without transparency, or PyAV is not installed.
    """
    suffix = Path(f"_{Path(output).name}").suffix.lower()  # `.gif` alone is a suffix, too
    found = FORMATS.get(suffix)
    if found is None:
        animated = ", ".join(suffix for suffix, kind in FORMATS.items() if kind.animated)
        raise UsageError(
            f"{output} is no image file; expected a name that ends in .png, or in {animated} for "
            "an animation",
            ErrorCode.OUTPUT_SUFFIX,
        )
    if transparent and found.opaque:
        raise UsageError(
            f"{output} cannot be transparent; use .webp or .png, or a --background",
            ErrorCode.OUTPUT_SUFFIX,
        )
    if suffix == ".mp4" and find_spec("av") is None:
        raise missing_extra("writing .mp4", "video")
    return found
