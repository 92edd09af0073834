"""Words of users never become markup."""

import pytest

from facedis_core.markup import Markup, element, joined, printable


def test_words_are_escaped_and_markup_is_not() -> None:
    inner = element("b", "a < b & c")
    assert inner == "<b>a &lt; b &amp; c</b>"
    assert element("p", inner, " > ", ["x", inner]) == f"<p>{inner} &gt; x{inner}</p>"
    assert isinstance(inner, Markup)


def test_a_script_in_a_name_is_words() -> None:
    name = "</script><script>alert('\"1\"')</script>"
    for found in (element("td", name), element("td", "", title=name)):
        assert found.count("<") == 2
        assert "'" not in found
        assert found.count('"') in (0, 2)


def test_attributes() -> None:
    found = element("input", class_="a", aria_label='"x"', hidden=True, id=None, checked=False)
    assert found == '<input class="a" aria-label="&quot;x&quot;" hidden>'
    assert element("line", x1=1.5, x2=2.0, y1=1 / 3) == '<line x1="1.5" x2="2" y1="0.33"></line>'


def test_nothing_is_nothing() -> None:
    assert element("p", None, [], iter(())) == "<p></p>"
    assert joined([0, " ", 0.5]) == "0 0.5"


@pytest.mark.parametrize("sign", ["\0", "\x1b", "\u202e", "\udcff", "\n"])
def test_what_nobody_can_see_is_shown_as_a_sign(sign: str) -> None:
    assert printable(f"a{sign}b") == "a\N{REPLACEMENT CHARACTER}b"
    element("p", sign).encode()


@pytest.mark.parametrize("name", ["Ann\u00a0B", "山\u3000川", "grün", "a b"])
def test_spaces_of_any_width_stay(name: str) -> None:
    assert printable(name) == name
