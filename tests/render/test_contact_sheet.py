"""Contact sheets: positions of pictures and texts."""

from typing import Any

import numpy as np
import pytest
from raising import raises

from facedis_core.render.contact_sheet import ContactSheet, sheet_columns
from facedis_core.render.shading import BACKGROUND, to_srgb

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


def test_a_name_with_joints_is_parted_at_the_middle_one() -> None:
    one = compose(pictures(1), 1, captions=["anna"])
    two = compose(pictures(1), 1, captions=["iii_i__iiii_i_iiiiii"])
    assert one.shape[0] < two.shape[0]
    assert written(two[one.shape[0] - 4 : -4])


def test_a_name_with_control_characters_is_one_line() -> None:
    assert compose(pictures(1), 1, captions=["a\nb\tc\x00"]).shape[0] < 2 * HEIGHT


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
