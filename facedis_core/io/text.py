"""Encoding and line ends of text files, the same for every reader; what messages quote."""

from collections.abc import Sequence
from glob import has_magic
from pathlib import Path
from typing import Final

from facedis_core.errors import ErrorCode, InputError

LONGEST_MARK: Final = 4
"""Bytes of the longest byte order mark."""

_LONGEST_NAME: Final = 100  # characters of a path in a message
_UTF8_MARK: Final = b"\xef\xbb\xbf"
# That of UTF-32 begins as that of UTF-16.
_OTHER_MARKS: Final = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
# Where NULs are among the first four bytes of ASCII characters in these encodings.
_NULS: Final[dict[tuple[bool, ...], str]] = {
    (False, True, False, True): "UTF-16",
    (True, False, True, False): "UTF-16",
    (False, True, True, True): "UTF-32",
    (True, True, True, False): "UTF-32",
}


def without_mark(text: bytes, *, nuls: bool = False) -> bytes:
    """The text, or its first LONGEST_MARK bytes, without the byte order mark of UTF-8.

    Args:
        text: begins as the file does.
        nuls: NUL bytes are separators.

    Raises:
        InputError: text in UTF-16 or UTF-32.
    """
    found = next((name for mark, name in _OTHER_MARKS if text.startswith(mark)), None)
    if not (found or nuls):
        found = _NULS.get(tuple(byte == 0 for byte in text[:LONGEST_MARK]))
    if found:
        raise InputError(f"is text in {found}; save it as UTF-8", ErrorCode.WRONG_KIND)
    return text.removeprefix(_UTF8_MARK)


def check_text(text: bytes) -> None:
    """Raise InputError for text in UTF-16 or UTF-32, and for NUL bytes."""
    without_mark(text)
    if b"\0" in text:
        raise InputError("contains NUL bytes; expected text in UTF-8", ErrorCode.WRONG_KIND)


def with_newlines(text: bytes) -> bytes:
    """The text with LF as the end of each line, for CRLF and for a lone CR."""
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def missing(source: str, kind: str = "file") -> InputError:
    """The error for a path, a URL or a pattern where there is nothing."""
    but = " and as a pattern matches nothing" if has_magic(source) else ""
    return InputError(
        f"{shown(source)} does not exist{but}; expected a {kind}", ErrorCode.FILE_MISSING
    )


def quoted(data: bytes, longest: int = 32) -> str:
    """Bytes of a file as a message quotes them, those that are no printable ASCII as in `repr`."""
    shown = "".join(chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in data[:longest])
    return f"'{shown}{'...' if len(data) > longest else ''}'"


def shown(source: str | Path) -> str:
    """The name of a source for a message, on one line; of a long path the end.

    It is quoted where it has blanks at its ends.
    """
    name = str(source)
    if name == "-":
        return "standard input"
    if len(name) > _LONGEST_NAME:
        head, slash, tail = name[-_LONGEST_NAME:].partition("/")
        name = f".../{tail}" if slash else f"...{head}"
    return on_one_line(name) if name and name == name.strip() else repr(name)


def on_one_line(text: str) -> str:
    """The text, quoted if it has characters that are not printable."""
    return text if text.isprintable() else repr(text)


def first_of(names: Sequence[str], most: int) -> str:
    """Names in a message: `a, b and 3 more`.

    Example:
        >>> first_of(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_line(error: Exception) -> str:
    """The first line of what an error of another package says, else its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)
