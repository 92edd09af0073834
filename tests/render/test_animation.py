"""Animations: their frames, read back from files."""

import io
from fractions import Fraction

import numpy as np
import pytest
from conftest import face, grid_mesh
from PIL import Image
from raising import raises

from facedis_core.mesh.mesh import Mesh
from facedis_core.render.animation import Motion, render_frames
from facedis_core.render.background import Background
from facedis_core.render.image_files import FORMATS, image_format
from facedis_core.render.scene import SceneOptions

NOISE = np.random.default_rng(0).integers(0, 255, (3, 4, 4, 3), np.uint8)
SMALL = SceneOptions(size=48)
_, TRIANGLES = grid_mesh()


def meshes(count: int) -> list[Mesh]:
    return [Mesh(face(k), TRIANGLES, f"face{k}") for k in range(count)]


def read_back(data: bytes) -> list[np.ndarray]:
    image = Image.open(io.BytesIO(data))
    found = []
    for number in range(image.n_frames):
        image.seek(number)
        found.append(np.asarray(image.convert("RGB")).astype(int))
    return found


def test_a_turn_ends_as_it_begins_and_goes_to_both_sides() -> None:
    angles = Motion(turn=40, seconds=1, fps=20).turn_angles(3)
    assert len(angles) == 20
    assert min(angles) == pytest.approx(-40)
    assert max(angles) == pytest.approx(40)
    assert abs(angles[0]) < 1e-9
    assert angles[-1] == pytest.approx(-angles[1])


def test_one_face_turns_and_several_follow_one_another() -> None:
    motion = Motion(seconds=0.5, fps=10)
    turning = list(render_frames(meshes(1), SMALL, motion))
    assert len(turning) == 5
    assert (turning[1] != turning[0]).any()
    still = [next(render_frames([mesh], SceneOptions(size=48), None)) for mesh in meshes(1)]
    assert still[0].shape[0] == turning[0].shape[0]
    one_by_one = list(render_frames(meshes(3), SMALL, motion))
    assert len(one_by_one) == 3
    assert len({frame.shape for frame in one_by_one}) == 1


def test_a_sheet_turns_as_a_whole() -> None:
    found = list(render_frames(meshes(3), SMALL, Motion(turn=30, seconds=0.4, fps=10)))
    assert len(found) == 4
    single = list(render_frames(meshes(1), SMALL, Motion(turn=30, seconds=0.4, fps=10)))
    assert found[0].shape[1] > 2 * single[0].shape[1]


def test_there_and_back() -> None:
    found = list(render_frames(meshes(4), SMALL, Motion(bounce=True)))
    assert len(found) == 6
    assert np.array_equal(found[4], found[2])
    assert np.array_equal(found[5], found[1])


def test_frames_are_of_one_size_though_names_are_not() -> None:
    long = Mesh(face(1), TRIANGLES, "somebody_whose_name_needs_two_lines")
    found = list(render_frames([*meshes(1), long], SMALL, Motion()))
    assert found[0].shape == found[1].shape


def test_processes_do_not_change_a_frame() -> None:
    motion = Motion(turn=30, seconds=0.4, fps=10)
    alone, together = (list(render_frames(meshes(2), SMALL, motion, jobs=jobs)) for jobs in (1, 2))
    assert np.array_equal(alone, together)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_gif_and_webp_hold_the_frames(suffix: str) -> None:
    pictures = list(render_frames(meshes(1), SMALL, Motion(seconds=0.4, fps=10)))
    files = io.BytesIO(), io.BytesIO()
    for stream in files:
        FORMATS[suffix].write(stream, iter(pictures), 10)
    assert files[0].getvalue() == files[1].getvalue()
    found = read_back(files[0].getvalue())
    assert len(found) == len(pictures)
    for picture, frame in zip(pictures, found, strict=True):
        assert np.abs(frame - picture).mean() < 4
        if suffix == ".gif":
            assert np.array_equal(frame[0, 0], picture[0, 0])


def test_mp4_holds_the_frames() -> None:
    av = pytest.importorskip("av")
    pictures = list(render_frames(meshes(1), SMALL, Motion(seconds=0.4, fps=10)))
    stream = io.BytesIO()
    FORMATS[".mp4"].write(stream, iter(pictures), 10)
    with av.open(io.BytesIO(stream.getvalue())) as container:
        assert container.streams.video[0].average_rate == Fraction(10)
        found = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]
    assert len(found) == len(pictures)
    for picture, frame in zip(pictures, found, strict=True):
        height, width = frame.shape[:2]
        assert np.abs(frame - picture[:height, :width]).mean() < 5


def test_a_transparent_webp() -> None:
    pictures = list(
        render_frames(
            meshes(1),
            SceneOptions(size=48, background=Background(None)),
            Motion(seconds=0.4, fps=5),
        )
    )
    stream = io.BytesIO()
    FORMATS[".webp"].write(stream, iter(pictures), 5)
    image = np.asarray(Image.open(stream).convert("RGBA"))
    assert image[0, 0, 3] == 0
    assert image[20, image.shape[1] // 2, 3] == 255


def test_the_name_says_the_kind() -> None:
    assert not image_format("-", transparent=True).animated
    assert not image_format("a.PNG", transparent=True).animated
    assert image_format("a.webp", transparent=True).animated


@pytest.mark.parametrize("fps", [1, 7, 25, 30, 40, 50])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_turn_takes_its_seconds_whatever_the_clock_of_the_file(suffix: str, fps: float) -> None:
    kind = FORMATS[suffix]
    rate = kind.nearest_fps(fps)
    count = len(Motion(turn=30, seconds=4, fps=rate).turn_angles(1))
    stream = io.BytesIO()
    kind.write(stream, iter(NOISE), rate)
    image = Image.open(stream)
    image.load()
    assert count * image.info["duration"] / 1000 == pytest.approx(4, abs=0.6 / rate)


def test_a_gif_of_few_colors_keeps_them() -> None:
    pictures = np.full((2, 4, 4, 3), 247, np.uint8)
    pictures[:, 1, 1], pictures[1, 2, 2] = (200, 30, 40), (10, 120, 30)
    stream = io.BytesIO()
    FORMATS[".gif"].write(stream, iter(pictures), 10)
    assert np.array_equal(read_back(stream.getvalue()), pictures)


@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_a_short_turn_shows_both_sides(seconds: float) -> None:
    angles = Motion(turn=30, seconds=seconds, fps=10).turn_angles(1)
    assert min(angles) < -20
    assert max(angles) > 20


@pytest.mark.parametrize(
    ("style", "motion", "count", "error"),
    [
        (SceneOptions(row_labels=["a", "b"]), Motion(), 2, "option-conflict: --row-labels"),
        (SceneOptions(columns=1), Motion(turn=0), 2, "option-conflict: --columns"),
        (SMALL, Motion(turn=30, bounce=True), 2, "option-conflict: --bounce"),
        (SMALL, Motion(bounce=True), 1, "option-conflict: --bounce"),
    ],
)
def test_what_would_be_ignored_is_refused(
    style: SceneOptions, motion: Motion, count: int, error: str
) -> None:
    with raises(error):
        render_frames(meshes(count), style, motion)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_frames_that_a_format_cannot_hold_are_refused_in_a_line(suffix: str) -> None:
    kind = image_format(f"a{suffix}", transparent=False)
    assert kind.max_side is not None
    wide = np.zeros((2, kind.max_side + 1, 3), np.uint8)
    with raises("option-value", f"{kind.max_side + 1} x 2 .* {kind.max_side} per side"):
        kind.write(io.BytesIO(), iter([wide]), 10)
