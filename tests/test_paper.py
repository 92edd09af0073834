"""Paper and ink."""

from itertools import pairwise

import numpy as np
import pytest

from facedis_core.colours import Scale
from facedis_core.errors import UsageError
from facedis_core.legend import Bar, colour_bar
from facedis_core.lettering import Text, lines, width_of, written
from facedis_core.paper import PLAIN, Paper


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("white", (255, 255, 255)),
        ("#102030", (16, 32, 48)),
        ("#fff", (255, 255, 255)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
        ("transparent", None),
    ],
)
def test_colours_have_names_or_numbers(text: str, colour: object) -> None:
    assert Paper.parse(text).colour == colour


@pytest.mark.parametrize("text", ["", "whitish", "#12", "#10203040", "rgb(1,2)"])
def test_what_is_no_colour(text: str) -> None:
    with pytest.raises(UsageError, match="background"):
        Paper.parse(text)


@pytest.mark.parametrize("text", ["white", "black", "#f7f7f7", "#203060", "yellow", "gray"])
def test_ink_can_be_read(text: str) -> None:
    paper = Paper.parse(text)
    luma = np.array([0.2126, 0.7152, 0.0722])
    light = luma @ paper.linear
    for ink in paper.inks:
        other = luma @ Paper(ink).linear
        contrast = (max(light, other) + 0.05) / (min(light, other) + 0.05)
        assert contrast >= 4, (text, ink)


def test_letters_on_nothing_have_no_rim() -> None:
    paper = Paper(None)
    text = Text("word", (40, 10), 80, 14, paper.inks[1])
    canvas = written(paper.blank(20, 80), [text])
    assert canvas[..., 3].max() > 200
    assert (canvas[..., :3] == paper.inks[1]).all()


def test_a_long_caption_is_parted_and_a_note_has_its_own_line() -> None:
    assert lines("ann_smile\nmean 1", 12, 500) == ["ann_smile", "mean 1"]
    parted = lines("somebody_with_a_name/and_an_expression", 12, 170)
    assert len(parted) == 2
    assert "".join(parted) == "somebody_with_a_name/and_an_expression"


@pytest.mark.parametrize("width", [30, 120, 900])
@pytest.mark.parametrize("paper", [PLAIN, Paper(None)])
def test_a_bar_runs_from_its_lowest_to_its_highest_colour(width: int, paper: Paper) -> None:
    scale = Scale(0, 3)
    strip, texts = colour_bar(Bar(scale, beyond=True), width, 14, paper)
    assert strip.shape[:2] == (70, width)
    coloured = (strip != paper.blank(*strip.shape[:2])).any(-1)
    row = np.flatnonzero(coloured.sum(1) > 3)[3]
    bar = strip[row, coloured[row], :3].astype(int)[1:-1]  # without its outline
    assert bar[0].sum() > bar[-1].sum() + 300
    words = [text.text for text in texts]
    assert words[1] == "0"
    assert words[-1] == ">3"
    assert all(0 <= text.centre[0] <= width for text in texts)
    if width == 900:
        assert words == ["distance to the true vertex, mm", "0", "1", "2", ">3"]
        halves = [width_of(text.text, 14) / 2 for text in texts[1:]]
        ends = [(t.centre[0] - h, t.centre[0] + h) for t, h in zip(texts[1:], halves, strict=True)]
        assert all(left > right for (left, _), (_, right) in zip(ends[1:], ends, strict=False))


@pytest.mark.parametrize(
    ("values", "first", "last"), [([1, 4], "1", "4"), ([0.5, 4], "<1", "4"), ([1, 9], "1", ">4")]
)
def test_a_bar_says_at_which_end_values_are_beyond_it(values: list, first: str, last: str) -> None:
    bar = Bar.of(Scale(1, 4), [np.array(values)])
    words = [text.text for text in colour_bar(bar, 900, 14, PLAIN)[1]]
    assert (words[1], words[-1]) == (first, last)


@pytest.mark.parametrize("width", [120, 160, 205, 300, 500])
def test_words_of_a_bar_fit_however_narrow_it_is(width: int) -> None:
    title, *marks = colour_bar(Bar(Scale(0, 20), beyond=True), width, 14, PLAIN)[1]
    assert width_of(title.text, 14) <= title.room
    ends = [(m.centre[0] - width_of(m.text, 14) / 2, width_of(m.text, 14)) for m in marks]
    assert all(a + wide < b for (a, wide), (b, _) in pairwise(ends))
