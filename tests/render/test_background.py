"""Background, text colors, text drawing and the color bar."""

from itertools import pairwise

import numpy as np
import pytest
from raising import raises

from facedis_core.render.background import LIGHT_GRAY, Background
from facedis_core.render.color_bar import ColorBar, draw_color_bar
from facedis_core.render.color_scale import ColorScale
from facedis_core.render.text import TextLine, draw_text, text_width, wrap_caption


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
    assert Background.parse(text).color == color


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


def test_letters_on_nothing_have_no_rim() -> None:
    background = Background(None)
    text = TextLine("word", (40, 10), 80, 14, background.text_colors[1])
    canvas = draw_text(background.blank(20, 80), [text])
    assert canvas[..., 3].max() > 200
    assert (canvas[..., :3] == background.text_colors[1]).all()


def test_a_long_caption_is_parted_and_a_note_has_its_own_line() -> None:
    assert wrap_caption("ann_smile\nmean 1", 12, 500) == ["ann_smile", "mean 1"]
    parted = wrap_caption("somebody_with_a_name/and_an_expression", 12, 170)
    assert len(parted) == 2
    assert "".join(parted) == "somebody_with_a_name/and_an_expression"


@pytest.mark.parametrize("width", [30, 120, 900])
@pytest.mark.parametrize("background", [LIGHT_GRAY, Background(None)])
def test_a_bar_runs_from_its_lowest_to_its_highest_color(
    width: int, background: Background
) -> None:
    scale = ColorScale(0, 3)
    strip, texts = draw_color_bar(ColorBar(scale, above=True), width, 14, background)
    assert strip.shape[:2] == (70, width)
    colored = (strip != background.blank(*strip.shape[:2])).any(-1)
    row = np.flatnonzero(colored.sum(1) > 3)[3]
    bar = strip[row, colored[row], :3].astype(int)[1:-1]  # without its outline
    assert bar[0].sum() > bar[-1].sum() + 300
    words = [text.text for text in texts]
    assert words[1] == "0"
    assert words[-1] == ">3"
    assert all(0 <= text.centre[0] <= width for text in texts)
    if width == 900:
        assert words == ["distance to the true vertex, mm", "0", "1", "2", ">3"]
        halves = [text_width(text.text, 14) / 2 for text in texts[1:]]
        ends = [(t.centre[0] - h, t.centre[0] + h) for t, h in zip(texts[1:], halves, strict=True)]
        assert all(left > right for (left, _), (_, right) in zip(ends[1:], ends, strict=False))


@pytest.mark.parametrize(
    ("values", "first", "last"), [([1, 4], "1", "4"), ([0.5, 4], "<1", "4"), ([1, 9], "1", ">4")]
)
def test_a_bar_says_at_which_end_values_are_beyond_it(values: list, first: str, last: str) -> None:
    bar = ColorBar.of(ColorScale(1, 4), [np.array(values)])
    words = [text.text for text in draw_color_bar(bar, 900, 14, LIGHT_GRAY)[1]]
    assert (words[1], words[-1]) == (first, last)


@pytest.mark.parametrize("width", [120, 160, 205, 300, 500])
def test_words_of_a_bar_fit_however_narrow_it_is(width: int) -> None:
    title, *marks = draw_color_bar(ColorBar(ColorScale(0, 20), above=True), width, 14, LIGHT_GRAY)[
        1
    ]
    assert text_width(title.text, 14) <= title.room
    ends = [(m.centre[0] - text_width(m.text, 14) / 2, text_width(m.text, 14)) for m in marks]
    assert all(a + wide < b for (a, wide), (b, _) in pairwise(ends))
