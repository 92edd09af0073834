"""CSV files with a header that users write: labels and splits."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from facedis_core.errors import InputError


class Line(NamedTuple):
    """One line of a table: where it is, for messages, and its values without blanks around them."""

    where: str
    values: dict[str, str]


def read_table(
    content: bytes, label: str, check_header: Callable[[Sequence[str]], None]
) -> Iterator[Line]:
    """The lines after the header, which `check_header` has accepted.

    Raises InputError where this is no CSV file, or a line has not one field a column.
    """
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        check_header(list(rows.fieldnames or ()))
        for row in rows:
            where = f"{label} line {rows.line_num}"
            if None in row or None in row.values():
                raise InputError(f"{where} has more or fewer fields than the header")
            yield Line(where, {str(key): str(value).strip() for key, value in row.items()})
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{label} is not a CSV file in UTF-8 ({error})") from None
