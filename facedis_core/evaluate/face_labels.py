"""Subject and expression of faces, from a CSV file or from their names."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Final

from facedis_core.data.name_patterns import compile_pattern
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.csv_text import brief, read_rows, read_text
from facedis_core.io.text import shown

_COLUMNS: Final = ("name", "subject", "expression")


@dataclass(frozen=True)
class FaceLabel:
    """Subject and expression of a face; "" = unknown expression."""

    subject: str
    expression: str


@dataclass(frozen=True)
class LabelSource:
    """A source of labels: a CSV file as of `read_labels`, or else a pattern of the names."""

    file: str | None = None
    pattern: str | None = None

    def of(self, names: Sequence[str], required: Sequence[str]) -> list[FaceLabel]:
        """The label of each name.

        Args:
            names: names of faces.
            required: which of `subject` and `expression` each label must have.

        Raises:
            UsageError: a pattern without a required part.
            InputError: a name without a label; errors of `read_labels`.
        """
        if self.pattern is not None:
            expression = compile_pattern(self.pattern, required)
            matches = [expression.fullmatch(name) for name in names]
            if None in matches:
                raise InputError(
                    f"{brief(names[matches.index(None)])} does not match the pattern "
                    f"{self.pattern!r}; expected the names of the latents, without .ply",
                    ErrorCode.PATTERN_MISMATCH,
                )
            found = [match.groupdict() for match in matches if match]
            return [FaceLabel(each["subject"], each.get("expression", "")) for each in found]
        known = read_labels(self.file or "-", frozenset(names), ("name", *required))
        missing = [name for name in names if name not in known]
        if missing:
            raise InputError(
                f"{shown(self.file or '-')} has no row for {brief(missing[0])}, {len(missing)} of "
                f"{len(names)} latents; add one for each",
                ErrorCode.LABEL_MISSING,
            )
        return [known[name] for name in names]


def read_labels(
    source: str, names: Container[str] | None = None, required: Sequence[str] = _COLUMNS
) -> dict[str, FaceLabel]:
    """Labels by name, from a CSV file with the columns name, subject, expression.

    Args:
        source: path, or `-` for standard input.
        names: names to read labels of; None = all.
        required: columns that must be there; an absent value of another column is empty.

    Raises:
        InputError: unreadable, missing columns, empty fields, or two different labels of one name.
    """

    def check_header(header: Sequence[str]) -> None:
        missing = [column for column in required if column not in header]
        if missing:
            raise InputError(
                f"{source} has no column {missing[0]!r}; "
                f"its first line must be {','.join(required)}",
                ErrorCode.CSV_COLUMNS,
            )

    found: dict[str, FaceLabel] = {}
    rows = read_rows(read_text(source), source, check_header)
    for number, row in rows:
        name, subject, expression = ((row.get(column) or "").strip() for column in _COLUMNS)
        if not (name and subject and (expression or "expression" not in required)):
            raise InputError(
                f"{source}, line {number}: an empty field; fill in all columns",
                ErrorCode.CSV_VALUE,
            )
        if names is not None and name not in names:
            continue
        label = FaceLabel(subject, expression)
        if found.setdefault(name, label) != label:
            raise InputError(
                f"{source}, line {number}: {brief(name)} has another label above",
                ErrorCode.LABEL_CONFLICT,
            )
    return found
