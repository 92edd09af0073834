"""CSV files with a header, and lists of names, one a line.

Files far larger than a table of a data set are refused before they are parsed, since a line takes
ten times its bytes as Python objects.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.streams import naming, read_all
from facedis_core.io.text import check_text

_MOST_BYTES = 1 << 26
_MOST_LINES = 1_000_000
_LONGEST_LINE = 1 << 16
_LONGEST_FIELD = 1024
_SEPARATORS = {";": "semicolons", "\t": "tabs"}  # of spreadsheets that write no commas


class CsvRow(NamedTuple):
    """A row: its place in the file, for messages, and its values by column, stripped."""

    where: str
    values: dict[str, str]


def read_text(source: str) -> bytes:
    """The bytes of a text file, or of standard input for `-`.

    Raises what `open_input` does, and InputError on more than any table has, on text in UTF-16 or
    UTF-32, and on NUL bytes.
    """
    content = read_all(source, _MOST_BYTES, "text, one line a face")
    with naming(source):
        check_text(content)
    return content


def read_lines(content: bytes, label: str) -> Iterator[str]:
    """The lines of a text in UTF-8, with or without a byte order mark, with their ends.

    Raises InputError where a line is very long, or there are very many.
    """
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    for number, line in enumerate(iter(partial(text.readline, _LONGEST_LINE), "")):
        if len(line) == _LONGEST_LINE:
            raise InputError(
                f"{label} line {number + 1} has {_LONGEST_LINE} characters and more; "
                "expected one line a face",
                ErrorCode.TOO_LARGE,
            )
        if number == _MOST_LINES:
            raise InputError(
                f"{label} has more than {_MOST_LINES} lines; expected one a face",
                ErrorCode.TOO_LARGE,
            )
        yield line


def read_table(
    content: bytes, label: str, check_header: Callable[[Sequence[str]], None]
) -> Iterator[CsvRow]:
    """The lines after the header, which `check_header` has accepted.

    Raises InputError where this is no CSV file, or a line has not one field a column.
    """
    for number, row in read_rows(content, label, check_header, strict=True):
        where = f"{label} line {number}"
        if None in row or None in row.values():
            raise InputError(
                f"{where} has more or fewer fields than the header", ErrorCode.CSV_SYNTAX
            )
        if any(len(value) > _LONGEST_FIELD for value in row.values()):
            raise InputError(
                f"{where} has a field of more than {_LONGEST_FIELD} characters", ErrorCode.TOO_LARGE
            )
        yield CsvRow(where, {str(key): str(value).strip() for key, value in row.items()})


def read_rows(
    content: bytes,
    label: str,
    check_header: Callable[[Sequence[str]], None],
    *,
    strict: bool = False,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers of lines and what they hold by column, whose names are stripped.

    Blanks before a quoted field do not count, nor do lines without anything but blanks and commas,
    with which spreadsheets end; `strict` is that of `csv.reader`.
    Raises InputError where this is no CSV file, other separators than commas included, or two
    columns have one name.
    """
    try:
        lines = read_lines(content, label)
        rows = csv.DictReader(lines, strict=strict, skipinitialspace=True)
        header = [name.strip() for name in rows.fieldnames or ()]
        single = header[0] if len(header) == 1 else ""
        other = next((name for sign, name in _SEPARATORS.items() if sign in single), None)
        if other:
            raise InputError(
                f"{label} has columns separated by {other}; save it with commas",
                ErrorCode.CSV_SYNTAX,
            )
        twice = next((name for k, name in enumerate(header) if name and name in header[:k]), None)
        if twice:
            raise InputError(
                f"{label} has two columns {brief(twice)}; remove one", ErrorCode.CSV_COLUMNS
            )
        check_header(header)
        rows.fieldnames = header
        for row in rows:
            if None in row or any(value.strip() for value in row.values() if value):
                yield rows.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{label} is not a CSV file in UTF-8 ({error})", ErrorCode.CSV_SYNTAX
        ) from None


def brief(text: str, longest: int = 60) -> str:
    """A text from a file as a message quotes it."""
    return repr(text if len(text) <= longest else text[:longest] + "...")


def brief_list(words: Sequence[str], most: int = 6) -> str:
    """Names of columns likewise."""
    some = ", ".join(
        word if word.isprintable() and len(word) < 60 else brief(word) for word in words[:most]
    )
    return f"{some}, ... ({len(words)})" if len(words) > most else some
