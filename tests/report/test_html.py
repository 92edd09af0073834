"""Escaping in report pages."""

import pytest

from facedis_core.report.html import printable


@pytest.mark.parametrize("character", ["\0", "\x1b", "\u202e", "\udcff", "\n"])
def test_invisible_characters_are_replaced(character: str) -> None:
    assert printable(f"a{character}b") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("name", ["Ann\u00a0B", "山\u3000川", "grün", "a b"])
def test_spaces_of_any_width_stay(name: str) -> None:
    assert printable(name) == name
