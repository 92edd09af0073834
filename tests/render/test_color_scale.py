"""The color scale: its colormap, and the colors of values."""

import numpy as np
import pytest
from raising import raises

from facedis_core.render.color_scale import (
    STEPS,
    ColorScale,
    colormap,
    colormap_oklab,
    oklab_to_linear,
)


def test_steps_are_equally_far_apart_and_darker_each() -> None:
    lab = colormap_oklab()
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert steps.max() / steps.min() < 1.05  # a chord is shorter where the way has a corner
    assert (np.diff(lab[:, 0]) < 0).all()
    assert lab[0, 0] - lab[-1, 0] > 0.7


def test_every_color_can_be_shown() -> None:
    linear = oklab_to_linear(colormap_oklab())
    assert linear.min() >= 0
    assert linear.max() <= 1


def test_oklab_of_white_and_of_a_known_red() -> None:
    np.testing.assert_allclose(oklab_to_linear(np.array([1, 0, 0])), 1, atol=1e-6)
    red = oklab_to_linear(np.array([0.627955, 0.224863, 0.125846]))
    np.testing.assert_allclose(red, [1, 0, 0], atol=1e-4)


def test_values_beyond_the_scale_have_the_colors_of_its_ends() -> None:
    scale = ColorScale(1, 3)
    colors = scale.colors(np.array([-5, 1, 3, 99, 2]))
    np.testing.assert_array_equal(colors[0], colormap()[0])
    np.testing.assert_array_equal(colors[1], colormap()[0])
    np.testing.assert_array_equal(colors[2], colormap()[-1])
    np.testing.assert_array_equal(colors[3], colormap()[-1])
    np.testing.assert_array_equal(colors[4], colormap()[STEPS // 2])


@pytest.mark.parametrize(
    ("most", "high"),
    [(0.9, 1), (1.0, 1), (1.01, 1.5), (2.2, 2.5), (3.1, 4), (7, 8), (0.29, 0.3), (96, 100)],
)
def test_a_scale_ends_with_a_round_number(most: float, high: float) -> None:
    assert ColorScale.covering([np.full(3, most), np.zeros(2)]).high == high


def test_one_outlier_in_a_hundred_does_not_stretch_a_scale() -> None:
    values = np.ones(1000)
    values[:5] = 400
    assert ColorScale.covering([values]) == ColorScale(0, 1)


def test_equal_faces_have_a_scale_too() -> None:
    assert ColorScale.covering([np.zeros(10)]) == ColorScale(0, 1)


@pytest.mark.parametrize("text", ["", "3", "3,0", "1,1", "0,nan", "0,inf", "a,b", "0,1,2"])
def test_what_is_no_range(text: str) -> None:
    with raises("option-value", "range"):
        ColorScale.parse(text)
