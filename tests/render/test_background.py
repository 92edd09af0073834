"""Backgrounds: how they are written, and colors of text that can be read on them."""

import numpy as np
import pytest
from raising import raises

from facedis_core.render.background import Background


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("white", (255, 255, 255)),
        ("#102030", (16, 32, 48)),
        ("#fff", (255, 255, 255)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
        ("transparent", None),
    ],
)
def test_colors_have_names_or_numbers(text: str, color: object) -> None:
    background = Background.parse(text)
    assert background.color == color
    assert (background.linear is None) == (color is None)


@pytest.mark.parametrize("text", ["", "whitish", "#12", "#10203040", "rgb(1,2)"])
def test_what_is_no_color(text: str) -> None:
    with raises("option-value", "background"):
        Background.parse(text)


@pytest.mark.parametrize("text", ["white", "black", "#f7f7f7", "#203060", "yellow", "gray"])
def test_ink_can_be_read(text: str) -> None:
    background = Background.parse(text)
    luma = np.array([0.2126, 0.7152, 0.0722])
    light = luma @ background.linear
    for color in background.text_colors:
        other = luma @ Background(color).linear
        contrast = (max(light, other) + 0.05) / (min(light, other) + 0.05)
        assert contrast >= 4, (text, color)
