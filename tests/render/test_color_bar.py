"""The color bar: its colors, its marks, and that they fit."""

from itertools import pairwise

import numpy as np
import pytest

from facedis_core.render.background import LIGHT_GRAY, Background
from facedis_core.render.color_bar import ColorBar, draw_color_bar
from facedis_core.render.color_scale import ColorScale
from facedis_core.render.text import text_width


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
