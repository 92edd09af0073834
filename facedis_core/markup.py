"""HTML and SVG written so that no word of a user can become markup."""

from collections.abc import Iterable
from html import escape
from typing import Any, Final
from unicodedata import category

Child = Any  # Markup as it is, other words escaped, and iterables of both; None is nothing

_VOID: Final = frozenset({"img", "input", "link", "meta", "br"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *children: Child, **attributes: Any) -> Markup:
    """An element: `element("td", "a < b", class_="best")`.

    Names of attributes end in _ where they are words of Python, and have _ for -. An attribute
    that is None or False is left out, one that is True has no value; numbers are made short.
    """
    words = [tag]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words.append(f'{name}="{escape(_plain(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if tag in _VOID else f"{opening}{joined(children)}</{tag}>")


def joined(children: Iterable[Child]) -> Markup:
    """Children one after another."""
    return Markup("".join(map(_written, children)))


def printable(text: str) -> str:
    """The text with signs in place of characters that nobody can see, or that UTF-8 lacks."""
    return "".join(map(_visible, text))


def _visible(sign: str) -> str:
    # spaces of any width are seen, but Python calls only one of them printable
    kept = sign.isprintable() or category(sign) == "Zs"
    return sign if kept else "\N{REPLACEMENT CHARACTER}"


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return joined(child)
    return escape(_plain(child))


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")  # coordinates
    return printable(str(value))
