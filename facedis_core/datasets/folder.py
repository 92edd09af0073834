"""A folder of the user's registered meshes, labelled by file names or by a CSV file."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, Unpack

import numpy as np

from facedis_core.data.face_set import SPLITS
from facedis_core.data.name_patterns import compile_pattern
from facedis_core.data.topology_map import read_map
from facedis_core.datasets.labels import LabelledFile, open_labelled
from facedis_core.datasets.mapped import mapped
from facedis_core.datasets.mesh_files import MeshFileSource
from facedis_core.datasets.source import ListingReport, MeshOptions, MissingFile
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.csv_text import brief, brief_list, read_table, read_text
from facedis_core.io.paths import below, check_name, files_below, is_file, is_folder
from facedis_core.io.streams import file_id
from facedis_core.io.text import shown
from facedis_core.io.urls import is_url

COLUMNS: Final = ("file", "subject", "expression", "level", "split")
_IGNORED: Final = ("name",)  # for fd-metrics, which reads the same table
_MOST_MISSING = 20_000  # for every file there


class LabelRow(NamedTuple):
    """Labels of one file, whose path is relative to the root; None = not given."""

    file: str
    subject: str
    expression: str
    level: float | None = None
    split: str | None = None


def open_folder(
    root: str | Path,
    *,
    pattern: str | None = None,
    labels: str | Path | None = None,
    neutral: str | None = None,
    map: str | None = None,
    **options: Unpack[MeshOptions],
) -> MeshFileSource:
    """Meshes below `root`, labelled by `pattern` or else by the CSV file `labels`.

    Args:
        root: the folder.
        pattern: path below it, such as `{subject}/{expression}.obj`; `{level}` and `*` are allowed.
        labels: columns file, subject, expression and, if wanted, level and split.
        neutral: the expression whose faces are the neutrals, level 0 if nothing else is said;
            None = `neutral`, if it occurs.
        map: file of a map that takes the meshes to another topology.
        options: those of all data sets; a protocol only where the CSV has no column split.

    Raises:
        UsageError: the pattern or a combination of options makes no sense.
        InputError: no folder, no match, two files of one name, a label that cannot be read.
    """
    if (pattern is None) == (labels is None):
        raise UsageError(
            "the faces need labels: by --pattern, such as '{subject}_{expression}.ply', or by "
            "--labels with a CSV file, and not by both",
            ErrorCode.OPTION_MISSING,
        )
    if not is_folder(root):
        raise InputError(
            f"{shown(root)} is not a folder; expected one with registered meshes",
            ErrorCode.NOT_A_FOLDER,
        )
    inputs: dict[str, str] = {}
    unknown: list[str] = []
    missing: list[MissingFile] = []
    if labels is not None:
        content = read_text(str(labels))
        inputs["labels"] = file_id(content)
        rows, missing = _there(root, read_labels_csv(content, str(labels)), str(labels))
    else:
        rows, unknown = match_files(root, pattern or "")
    neutral_name = neutral or "neutral"
    notes = []
    if neutral_name not in {row.expression for row in rows}:
        if neutral is not None:
            raise InputError(
                f"no file in {root} shows the expression {neutral!r} given as --neutral",
                ErrorCode.NEUTRAL_MISSING,
            )
        notes.append("no file shows the expression 'neutral', so subjects have no true neutral")
    entries = [
        LabelledFile(r.file, r.subject, r.expression, _usual_level(r, neutral_name)) for r in rows
    ]
    # The neutral first, whatever its name, so that expression 0 is the neutral in every set.
    expressions = sorted({e.expression for e in entries}, key=lambda e: (e != neutral_name, e))
    source = open_labelled(
        root,
        entries,
        expressions,
        options,
        neutral=neutral_name,
        inputs=inputs,
        notes=notes,
        findings=ListingReport(missing, unknown),
    )
    if rows[0].split is not None:
        source = _with_split(source, rows, options)
    return source if map is None else mapped(source, read_map(map))


def _with_split(
    source: MeshFileSource, rows: Sequence[LabelRow], options: MeshOptions
) -> MeshFileSource:
    """The source with the split that the labels give.

    Nobody is trained and tested on, or the numbers say nothing about new people.
    """
    if options.get("protocol") is not None or options.get("validation") is not None:
        raise UsageError(
            "the labels have a column split; leave out --protocol and --validation",
            ErrorCode.OPTION_CONFLICT,
        )
    first: dict[str, str | None] = {}
    for row in rows:
        known = first.setdefault(row.subject, row.split)
        if row.split != known:
            raise InputError(
                f"subject {row.subject!r} is in the splits {known} and {row.split}; "
                "a split is by subjects, give each person one",
                ErrorCode.SPLIT_OVERLAP,
            )
    split = np.array([SPLITS[row.split or ""] for row in rows], np.uint8)
    return replace(source, labels=replace(source.labels, split=split), protocol="as labelled")


def match_files(root: str | Path, pattern: str) -> tuple[list[LabelRow], list[str]]:
    """Files below `root` that fit the pattern, by path, and those that do not."""
    expression = compile_pattern(pattern)
    files = files_below(root)
    if not files:
        raise InputError(f"{root} holds no files; expected registered meshes", ErrorCode.EMPTY)
    matches = {file: match for file in files if (match := expression.fullmatch(file))}
    others = [file for file in files if file not in matches]
    if not matches:
        raise InputError(
            f"none of the {len(files)} files in {root} fits the pattern {pattern!r}, "
            f"for instance {others[0]} does not",
            ErrorCode.PATTERN_MISMATCH,
        )
    rows = []
    for file, match in matches.items():
        found = match.groupdict()
        level = None if found.get("level") is None else _level(found["level"], file)
        rows.append(LabelRow(file, found["subject"], found["expression"], level))
    return rows, others


def read_labels_csv(content: bytes, label: str) -> Iterator[LabelRow]:
    """The rows of a CSV file with a header; raises InputError that names the line."""

    def check_header(header: Sequence[str]) -> None:
        missing = [name for name in COLUMNS[:3] if name not in header]
        unknown = [name for name in header if name not in (*COLUMNS, *_IGNORED)]
        if missing or unknown:
            raise InputError(
                f"{label} has the columns {brief_list(header) or 'of an empty file'}; "
                f"expected {', '.join(COLUMNS[:3])} and, if wanted, level and split",
                ErrorCode.CSV_COLUMNS,
            )

    for where, values in read_table(content, label, check_header):
        yield _csv_row(values, where)


def _csv_row(values: Mapping[str, str], where: str) -> LabelRow:
    for name in COLUMNS[:3]:
        if not values[name]:
            raise InputError(
                f"{where} says nothing under {name!r}; every mesh needs it", ErrorCode.CSV_VALUE
            )
    split = values.get("split")
    if split is not None and split not in SPLITS:
        raise InputError(
            f"{where} has split {brief(split)}, expected one of {', '.join(SPLITS)}",
            ErrorCode.CSV_VALUE,
        )
    level = values.get("level")
    file = Path(values["file"]).as_posix()
    try:
        check_name(file)
    except InputError as error:
        raise InputError(f"{where}: {error}", error.code) from None
    return LabelRow(
        file,
        sys.intern(values["subject"]),
        sys.intern(values["expression"]),
        _level(level, where) if level else None,
        split,
    )


def _level(text: str, where: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise InputError(
            f"{where} has level {brief(text)}, expected a number from 0 neutral to 1 apex",
            ErrorCode.CSV_VALUE,
        )
    return level


def _there(
    root: str | Path, rows: Iterable[LabelRow], label: str
) -> tuple[list[LabelRow], list[MissingFile]]:
    """The rows whose files exist, and the others."""
    listed = set(files_below(root)) if is_url(root) else None  # to ask for each takes long
    seen: set[str] = set()
    there: list[LabelRow] = []
    missing: list[MissingFile] = []
    for row in rows:
        if row.file in seen:
            raise InputError(
                f"{label} lists {row.file} twice; a face may have one row only",
                ErrorCode.LABEL_CONFLICT,
            )
        seen.add(row.file)
        if row.file in listed if listed is not None else is_file(below(root, row.file)):
            there.append(row)
        else:
            missing.append(MissingFile(row.file, row.subject))
        if len(missing) > _MOST_MISSING * (1 + len(there)):
            break
    if not seen:
        raise InputError(
            f"{label} has a header and no rows; expected one row a mesh", ErrorCode.EMPTY
        )
    if not there:
        raise InputError(
            f"{label} lists {missing[0].file} and others, none of which is in {root}",
            ErrorCode.LABEL_MISSING,
        )
    if len(missing) > _MOST_MISSING * (1 + len(there)):
        raise InputError(
            f"{label} lists {len(there)} files that are in {root} and {len(missing)}, such as "
            f"{missing[0].file}, that are not; expected the labels of this folder",
            ErrorCode.LABEL_MISSING,
        )
    return there, missing


def _usual_level(row: LabelRow, neutral: str) -> float:
    return float(row.expression != neutral) if row.level is None else row.level
