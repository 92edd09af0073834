"""Image and animation files hold the frames that were drawn, read back by Pillow and PyAV."""

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from raising import raises

from facedis_core.render.animation import Motion
from facedis_core.render.image_files import FORMATS, image_format, write_png

# A disc that moves over a gray ground, (4, 48, 50, 3): smooth, as lossy formats want it.
ROW, COLUMN = np.indices((48, 50))
DISCS = np.stack([np.hypot(ROW - 24, COLUMN - 15 - 4 * k) < 10 for k in range(4)])[..., None]
FRAMES = np.where(DISCS, (200, 150, 120), 237).astype(np.uint8)


def read_back(data: bytes) -> list[np.ndarray]:
    image = Image.open(io.BytesIO(data))
    found = []
    for number in range(image.n_frames):
        image.seek(number)
        found.append(np.asarray(image.convert("RGB")).astype(int))
    return found


def test_png_is_read_back_and_the_same_each_time() -> None:
    streams = io.BytesIO(), io.BytesIO()
    for stream in streams:
        write_png(stream, FRAMES[0])
    assert streams[0].getvalue() == streams[1].getvalue()
    assert np.array_equal(np.asarray(Image.open(streams[0])), FRAMES[0])


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_gif_and_webp_hold_the_frames(suffix: str) -> None:
    files = io.BytesIO(), io.BytesIO()
    for stream in files:
        FORMATS[suffix].write(stream, iter(FRAMES), 10)
    assert files[0].getvalue() == files[1].getvalue()
    found = read_back(files[0].getvalue())
    assert len(found) == len(FRAMES)
    for picture, frame in zip(FRAMES, found, strict=True):
        assert np.abs(frame - picture).mean() < 4
        if suffix == ".gif":
            assert np.array_equal(frame[0, 0], picture[0, 0])


def test_mp4_holds_the_frames() -> None:
    av = pytest.importorskip("av")
    stream = io.BytesIO()
    FORMATS[".mp4"].write(stream, iter(FRAMES), 10)
    with av.open(io.BytesIO(stream.getvalue())) as container:
        assert container.streams.video[0].average_rate == Fraction(10)
        found = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]
    assert len(found) == len(FRAMES)
    for picture, frame in zip(FRAMES, found, strict=True):
        height, width = frame.shape[:2]
        assert np.abs(frame - picture[:height, :width]).mean() < 5


def test_a_transparent_webp() -> None:
    cover = np.where(DISCS, 255, 0).astype(np.uint8)
    stream = io.BytesIO()
    FORMATS[".webp"].write(stream, iter(np.concatenate([FRAMES, cover], axis=-1)), 5)
    image = np.asarray(Image.open(stream).convert("RGBA"))
    assert image[0, 0, 3] == 0
    assert image[24, 15, 3] == 255


def test_the_name_says_the_kind() -> None:
    assert not image_format("-", transparent=True).animated
    assert not image_format("a.PNG", transparent=True).animated
    assert image_format("a.webp", transparent=True).animated


@pytest.mark.parametrize("fps", [1, 7, 30, 40])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_turn_takes_its_seconds_whatever_the_clock_of_the_file(suffix: str, fps: float) -> None:
    kind = FORMATS[suffix]
    rate = kind.nearest_fps(fps)
    count = len(Motion(turn=30, seconds=4, fps=rate).turn_angles(1))
    stream = io.BytesIO()
    kind.write(stream, iter(FRAMES), rate)
    image = Image.open(stream)
    image.load()
    assert count * image.info["duration"] / 1000 == pytest.approx(4, abs=0.6 / rate)


def test_a_gif_of_few_colors_keeps_them() -> None:
    pictures = np.full((2, 4, 4, 3), 247, np.uint8)
    pictures[:, 1, 1], pictures[1, 2, 2] = (200, 30, 40), (10, 120, 30)
    stream = io.BytesIO()
    FORMATS[".gif"].write(stream, iter(pictures), 10)
    assert np.array_equal(read_back(stream.getvalue()), pictures)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_frames_that_a_format_cannot_hold_are_refused_in_a_line(suffix: str) -> None:
    kind = image_format(f"a{suffix}", transparent=False)
    assert kind.max_side is not None
    wide = np.zeros((2, kind.max_side + 1, 3), np.uint8)
    with raises("option-value", f"{kind.max_side + 1} x 2 .* {kind.max_side} per side"):
        kind.write(io.BytesIO(), iter([wide]), 10)
