"""Text in pictures: shortened, parted, with and without the fonts of the system."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import ImageFont

from facedis_core.render import text
from facedis_core.render.background import Background
from facedis_core.render.text import TextLine, draw_text, wrap_caption

WHITE = np.full((20, 80, 3), 255, np.uint8)


def test_letters_on_nothing_have_no_rim() -> None:
    background = Background(None)
    line = TextLine("word", (40, 10), 80, 14, background.text_colors[1])
    canvas = draw_text(background.blank(20, 80), [line])
    assert canvas[..., 3].max() > 200
    assert (canvas[..., :3] == background.text_colors[1]).all()


def test_a_long_caption_is_parted_and_a_note_has_its_own_line() -> None:
    assert wrap_caption("ann_smile\nmean 1", 12, 500) == ["ann_smile", "mean 1"]
    parted = wrap_caption("somebody_with_a_name/and_an_expression", 12, 170)
    assert len(parted) == 2
    assert "".join(parted) == "somebody_with_a_name/and_an_expression"


@pytest.mark.parametrize("letters", [1, 2, 3, 5, 12, 60])
def test_as_much_of_a_name_is_kept_as_there_is_room_for(letters: int) -> None:
    name, font = "abcdefghijkl" * 5, ImageFont.load_default(12)
    room = int(font.getlength(name[:letters] + "…")) + 1
    shorter = [name[: (n + 1) // 2] + "…" + name[len(name) - n // 2 :] for n in range(59, 0, -1)]
    kept = next((text for text in (name, *shorter) if font.getlength(text) <= room), "a…")
    line = TextLine(name, (250, 10), room, 12, (0, 0, 0))
    background = np.full((20, 500, 3), 255, np.uint8)
    assert np.array_equal(
        draw_text(background, [line]), draw_text(background, [line._replace(text=kept, room=500)])
    )


def caption(words: str) -> np.ndarray:
    """The words drawn in black on white."""
    return draw_text(WHITE, [TextLine(words, (40, 10), 80, 12, (0, 0, 0))])


@pytest.fixture
def without_fonts(monkeypatch) -> Iterator[None]:
    """As on a machine that has none of the fonts that are asked for."""
    text._shaped.cache_clear()
    monkeypatch.setattr(text, "_fonts", tuple)
    yield
    text._shaped.cache_clear()


def test_letters_that_no_font_has_lose_their_accents(without_fonts) -> None:
    assert np.array_equal(caption("\u00e9\u01d0"), caption("ei"))
    assert not np.array_equal(caption("e"), caption("i"))
    assert (caption("\u5c71") != WHITE).any()  # a box says that something is there


@pytest.mark.skipif(not text._fonts(), reason="no font of the system is known")
def test_letters_of_other_scripts_are_drawn_by_a_font_that_has_them() -> None:
    drawn = [caption(letter) for letter in ("Λ", "Ж", "ö", "o", "\U0010ffff")]
    for number, one in enumerate(drawn):
        assert all((one != other).any() for other in drawn[number + 1 :])
    assert np.array_equal(caption("\u00f6"), caption("o\u0308"))  # composed or not
