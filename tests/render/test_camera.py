"""The camera: views, turns and framing."""

import numpy as np
import pytest
from raising import raises

from facedis_core.render.camera import VIEWS, Camera, parse_views, rotate_about_vertical

NOSE = np.array([[0.0, 0.0, 50.0]])


@pytest.mark.parametrize(
    ("text", "views"),
    [("front", [0]), ("left,front,right", [-90, 0, 90]), ("half-left, 30,-7.5", [-45, 30, -7.5])],
)
def test_views_are_names_or_degrees(text: str, views: list[float]) -> None:
    assert parse_views(text) == views


@pytest.mark.parametrize("text", ["", "top", "front,,left", "nan", "361", "front," * 24 + "front"])
def test_what_is_no_view(text: str) -> None:
    with raises("option-value", "view"):
        parse_views(text)


def test_the_nose_points_where_the_view_says() -> None:
    np.testing.assert_allclose(
        rotate_about_vertical(NOSE, VIEWS["left"], (0, 0)), [[-50, 0, 0]], atol=1e-12
    )
    np.testing.assert_allclose(
        rotate_about_vertical(NOSE, VIEWS["right"], (0, 0)), [[50, 0, 0]], atol=1e-12
    )
    half = rotate_about_vertical(NOSE, VIEWS["half-right"], (0, 0))[0]
    np.testing.assert_allclose(half, [50 / 2**0.5, 0, 50 / 2**0.5])


def test_a_turn_is_rigid_and_its_axis_stays() -> None:
    face = np.random.default_rng(0).normal(size=(20, 3)) * 80
    given = face.copy()
    moved = rotate_about_vertical(given, 33, (5, -7))
    assert np.array_equal(given, face)
    assert np.abs(moved - face).max() > 10
    distances = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (face, moved)]
    np.testing.assert_allclose(*distances, atol=1e-9)
    np.testing.assert_allclose(
        rotate_about_vertical(np.array([[5.0, 9, -7]]), 33, (5, -7)), [[5, 9, -7]]
    )


def test_no_view_of_any_face_leaves_the_window() -> None:
    faces = [np.random.default_rng(k).normal(size=(50, 3)) * 60 + 30 * k for k in range(3)]
    views = [-90, -20, 0, 77]
    camera = Camera.framing(faces, 100, views)
    for face in faces:
        for view in views:
            column, row, _ = camera.project(rotate_about_vertical(face, view, camera.axis)).T
            assert 0 < column.min() < column.max() < camera.width
            assert 0 < row.min() < row.max() < camera.height
