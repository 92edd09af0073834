"""Contact sheets: positions of pictures and texts."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont
from raising import raises

from facedis_core.render import text
from facedis_core.render.contact_sheet import ContactSheet, sheet_columns
from facedis_core.render.image_files import write_png
from facedis_core.render.shading import BACKGROUND, to_srgb
from facedis_core.render.text import TextLine, draw_text

HEIGHT, WIDTH = 40, 30
PAPER = to_srgb(np.array(BACKGROUND))


def pictures(count: int) -> list[np.ndarray]:
    """Plain colors, each another one."""
    return [np.full((HEIGHT, WIDTH, 3), 20 * number + 1, np.uint8) for number in range(count)]


def written(region: np.ndarray) -> bool:
    return bool((region != PAPER).any())


def compose(pictures: list[np.ndarray], columns: int, **layout: Any) -> np.ndarray:
    return ContactSheet(columns, **layout).compose(pictures)


def test_pictures_stand_row_by_row() -> None:
    sheet = compose(pictures(5), 3)
    assert sheet.shape == (2 * HEIGHT, 3 * WIDTH, 3)
    middles = sheet[HEIGHT // 2 :: HEIGHT, WIDTH // 2 :: WIDTH, 0]
    assert middles.tolist() == [[1, 21, 41], [61, 81, PAPER[0]]]


def test_captions_stand_below_their_pictures() -> None:
    sheet = compose(pictures(4), 2, captions=["a", "", "c", "d"])
    strip = (sheet.shape[0] - 2 * HEIGHT) // 2
    assert strip > 10
    below = sheet[HEIGHT : HEIGHT + strip]
    assert written(below[:, :WIDTH])
    assert not written(below[:, WIDTH:])
    assert written(sheet[-strip:, WIDTH:])


def test_captions_that_repeat_are_written_once() -> None:
    one = compose(pictures(2), 2, captions=["a", "b"])
    three = compose(pictures(6), 2, captions=["a", "b"] * 3)
    assert three.shape[0] == one.shape[0] + 2 * HEIGHT


def test_row_labels_stand_to_the_left_in_full() -> None:
    sheet = compose(pictures(4), 2, row_labels=["expression", "x"])
    gutter = sheet.shape[1] - 2 * WIDTH
    upper, lower = sheet[:HEIGHT, :gutter], sheet[HEIGHT:, :gutter]
    assert written(upper)
    assert written(lower)
    for edge in (sheet[:, :3], sheet[:, gutter - 3 : gutter], sheet[:3, :gutter]):
        assert not written(edge)


def test_a_long_name_keeps_both_ends_and_its_place() -> None:
    def below(name: str) -> np.ndarray:
        return compose(pictures(2), 2, captions=[name, ""])[HEIGHT:]

    found = below("i" + "m" * 80 + "i")
    assert written(found[:, :WIDTH])
    assert not written(found[:, WIDTH:])
    assert np.array_equal(found, below("i" + "m" * 40 + "x" + "m" * 39 + "i"))
    assert (found != below("m" * 81 + "i")).any()
    assert (found != below("i" + "m" * 81)).any()


@pytest.mark.parametrize("letters", [1, 2, 3, 5, 12, 60])
def test_as_much_of_a_name_is_kept_as_there_is_room_for(letters: int) -> None:
    name, font = "abcdefghijkl" * 5, ImageFont.load_default(12)
    room = int(font.getlength(name[:letters] + "…")) + 1
    shorter = [name[: (n + 1) // 2] + "…" + name[len(name) - n // 2 :] for n in range(59, 0, -1)]
    kept = next((text for text in (name, *shorter) if font.getlength(text) <= room), "a…")
    background = np.full((20, 500, 3), 255, np.uint8)
    text = TextLine(name, (250, 10), room, 12, (0, 0, 0))
    assert np.array_equal(
        draw_text(background, [text]), draw_text(background, [text._replace(text=kept, room=500)])
    )


def test_a_name_with_joints_is_parted_at_the_middle_one() -> None:
    one = compose(pictures(1), 1, captions=["anna"])
    two = compose(pictures(1), 1, captions=["iii_i__iiii_i_iiiiii"])
    assert one.shape[0] < two.shape[0]
    assert written(two[one.shape[0] - 4 : -4])


def test_a_name_with_control_characters_is_one_line() -> None:
    assert compose(pictures(1), 1, captions=["a\nb\tc\x00"]).shape[0] < 2 * HEIGHT


def test_png_is_read_back_and_the_same_each_time() -> None:
    sheet = compose(pictures(3), 2, captions=["one", "two", "three"], row_labels=["p", "q"])
    streams = io.BytesIO(), io.BytesIO()
    for stream in streams:
        write_png(stream, sheet)
    assert streams[0].getvalue() == streams[1].getvalue()
    assert np.array_equal(np.asarray(Image.open(streams[0])), sheet)


@pytest.mark.parametrize(
    ("count", "asked", "labels", "columns"),
    [
        (1, None, "", 1),
        (4, None, "", 4),
        (20, None, "", 6),
        (20, 9, "", 9),
        (2, 9, "", 2),
        (20, None, "abcd", 5),
        (19, None, "abcd", 5),
        (20, 10, "ab", 10),
    ],
)
def test_columns(count: int, asked: int | None, labels: str, columns: int) -> None:
    assert sheet_columns(count, asked, labels) == columns


@pytest.mark.parametrize(("count", "asked", "labels"), [(5, None, "abcd"), (20, 5, "abc")])
def test_row_labels_must_fit_the_rows(count: int, asked: int | None, labels: str) -> None:
    with raises("option-value", f"{len(labels)} row labels"):
        sheet_columns(count, asked, labels)


def test_headings_stand_above_their_columns() -> None:
    bare = compose(pictures(4), 2)
    sheet = compose(pictures(4), 2, column_labels=["a", ""])
    strip = len(sheet) - len(bare)
    assert strip > 10
    assert np.array_equal(sheet[strip:], bare)
    assert written(sheet[:strip, :WIDTH])
    assert not written(sheet[:strip, WIDTH:])


def test_captions_that_say_nothing_take_no_room() -> None:
    sheet = compose(pictures(4), 2, captions=["", "", "c", ""])
    assert written(sheet[2 * HEIGHT :, :WIDTH])
    assert len(sheet) < 2 * HEIGHT + 40


def caption(words: str) -> np.ndarray:
    return compose(pictures(1), 1, captions=[words])


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
    assert written(caption("\u5c71")[HEIGHT:])  # a box says that something is there


@pytest.mark.skipif(not text._fonts(), reason="no font of the system is known")
def test_letters_of_other_scripts_are_drawn_by_a_font_that_has_them() -> None:
    drawn = [caption(letter) for letter in ("Λ", "Ж", "ö", "o", "\U0010ffff")]
    for number, one in enumerate(drawn):
        assert all((one != other).any() for other in drawn[number + 1 :])
    assert np.array_equal(caption("\u00f6"), caption("o\u0308"))  # composed or not
