"""Animations: how many frames, of which faces, turned how far."""

import numpy as np
import pytest
from conftest import face, grid_mesh
from raising import raises

from facedis_core.mesh.mesh import Mesh
from facedis_core.render.animation import Motion, render_frames
from facedis_core.render.scene import SceneOptions

SMALL = SceneOptions(size=48)
_, TRIANGLES = grid_mesh()


def meshes(count: int) -> list[Mesh]:
    return [Mesh(face(k), TRIANGLES, f"face{k}") for k in range(count)]


@pytest.mark.parametrize(("seconds", "frames"), [(1, 20), (0.1, 4)])
def test_a_turn_ends_as_it_begins_and_goes_to_both_sides(seconds: float, frames: int) -> None:
    angles = Motion(turn=40, seconds=seconds, fps=20).turn_angles(3)
    assert len(angles) == frames
    assert min(angles) == pytest.approx(-40)
    assert max(angles) == pytest.approx(40)
    assert abs(angles[0]) < 1e-9
    assert angles[-1] == pytest.approx(-angles[1])


def test_one_face_turns_and_several_follow_one_another_or_turn_together() -> None:
    motion = Motion(seconds=0.5, fps=10)
    turning = list(render_frames(meshes(1), SMALL, motion))
    assert len(turning) == 5
    assert (turning[1] != turning[0]).any()
    assert next(render_frames(meshes(1), SMALL, None)).shape[0] == turning[0].shape[0]
    one_by_one = list(render_frames(meshes(3), SMALL, motion))
    assert len(one_by_one) == 3
    assert len({frame.shape for frame in one_by_one}) == 1
    together = list(render_frames(meshes(3), SMALL, Motion(turn=30, seconds=0.4, fps=10)))
    assert len(together) == 4
    assert together[0].shape[1] > 2 * turning[0].shape[1]


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
