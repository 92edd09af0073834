"""A folder of registered meshes, labelled by their names or by a CSV file: anybody's own data."""

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError, UsageError
from facedis_core.faceset import SPLITS, Labels
from facedis_core.mesh import read_mesh
from facedis_core.paths import check_name, is_file, is_folder
from facedis_core.sources.registered import MeshFileSource, check_units
from facedis_core.sources.splits import split_subjects
from facedis_core.streams import read_all

COLUMNS: Final = ("file", "subject", "expression", "level", "split")
# What a placeholder of a pattern stands for; the shortest match wins, so that in
# `{subject}_{expression}.ply` an expression may contain underscores and a subject may not.
PLACEHOLDERS: Final[Mapping[str, str]] = {
    "subject": "[^/]+?",
    "expression": "[^/]+?",
    "level": r"\d+(?:\.\d+)?",
}


class Entry(NamedTuple):
    """One labelled file: path below the folder, with `/`; None where the labels say nothing."""

    file: str
    subject: str
    expression: str
    level: float | None = None
    split: str | None = None


def open_folder(
    root: Path,
    *,
    pattern: str | None = None,
    labels: Path | None = None,
    neutral: str | None = None,
    units: str | None = None,
    simplify: int | None = None,
    align: str | None = None,
    test: float | None = None,
    validation: float | None = None,
    seed: int = 0,
) -> MeshFileSource:
    """Meshes below `root`, labelled by `pattern` or else by the CSV file `labels`.

    Args:
        root: the folder.
        pattern: path below it, such as `{subject}/{expression}.obj`; `{level}` and `*` are allowed.
        labels: columns file, subject, expression and, if wanted, level and split.
        neutral: the expression whose faces are the neutrals, level 0 if nothing else is said;
            None = `neutral`, if it occurs.
        units: of files that do not say: mm, cm or m.
        simplify: about how many triangles to keep.
        align: to the mean face: none, rigid or similarity.
        test: part of the subjects to test on, where the CSV has no column split; None = 0.3.
        validation: part of the others to validate on; None = 0.
        seed: of the split.

    Raises:
        UsageError: the pattern or a combination of options makes no sense.
        InputError: no folder, no match, two files of one name, a label that cannot be read.
    """
    check_units(units)
    if (pattern is None) == (labels is None):
        raise UsageError(
            "source folder needs --pattern, such as '{subject}_{expression}.ply', or --labels "
            "with a CSV file, and not both"
        )
    if not is_folder(root):
        raise InputError(f"{root} is not a folder; expected one with registered meshes")
    notes: list[str] = []
    inputs: dict[str, str] = {}
    if labels is not None:
        content = read_all(str(labels))
        inputs["labels"] = hashlib.sha256(content).hexdigest()[:12]
        entries = read_labels_csv(content, str(labels))
        _check_files(root, entries, str(labels))
    else:
        entries = match_files(root, pattern or "", notes)
    if len({entry.expression for entry in entries} & {neutral or "neutral"}) == 0:
        if neutral is not None:
            raise InputError(
                f"no file in {root} shows the expression {neutral!r} given as --neutral"
            )
        notes.append("no file shows the expression 'neutral', so subjects have no true neutral")
    made = _labels(entries, neutral or "neutral", test, validation, seed)
    first = root / entries[_reference_row(made, neutral or "neutral")].file
    return MeshFileSource(
        files=[root / entry.file for entry in entries],
        labels=made,
        protocol="as labelled" if entries[0].split is not None else "random subjects",
        neutral_rows=_is_neutral(made, neutral or "neutral"),
        reference=read_mesh(first),
        reference_file=first,
        units=units,
        simplify=simplify,
        align=align,
        inputs=inputs,
        notes=notes,
    )


def match_files(root: Path, pattern: str, notes: list[str]) -> list[Entry]:
    """Files below `root` that fit the pattern, by path; `notes` is told of the others."""
    expression = compile_pattern(pattern)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if is_file(path))
    if not files:
        raise InputError(f"{root} holds no files; expected registered meshes")
    matches = {file: match for file in files if (match := expression.fullmatch(file))}
    others = [file for file in files if file not in matches]
    if not matches:
        raise InputError(
            f"none of the {len(files)} files in {root} fits the pattern {pattern!r}, "
            f"for instance {others[0]} does not"
        )
    if others:
        notes.append(
            f"{len(others)} of {len(files)} files do not fit the pattern and are left out, "
            f"for instance {others[0]}"
        )
    entries = []
    for file, match in matches.items():
        found = match.groupdict()
        level = None if found.get("level") is None else _level(found["level"], file)
        entries.append(Entry(file, found["subject"], found["expression"], level))
    return entries


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """`{subject}/{expression}.obj` as a regular expression for paths with `/`.

    A placeholder that occurs twice stands for the same text in both places.
    Raises UsageError for unknown or missing placeholders.
    """
    parts, seen = [], set()
    for piece in re.split(r"(\{[^{}]*\}|\*)", pattern):
        name = piece[1:-1] if piece.startswith("{") and piece.endswith("}") else None
        if piece == "*":
            parts.append("[^/]*")
        elif name is None:
            parts.append(re.escape(piece))
        elif name in seen:
            parts.append(f"(?P={name})")
        elif name in PLACEHOLDERS:
            parts.append(f"(?P<{name}>{PLACEHOLDERS[name]})")
            seen.add(name)
        else:
            known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            raise UsageError(f"pattern {pattern!r} has {piece}, expected {known} or *")
    for name in ("subject", "expression"):
        if name not in seen:
            raise UsageError(
                f"pattern {pattern!r} does not say where the {name} is; put {{{name}}} there"
            )
    return re.compile("".join(parts))


def read_labels_csv(content: bytes, label: str) -> list[Entry]:
    """The rows of a CSV file with a header; raises InputError that names the line."""
    try:
        lines = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = lines.fieldnames or ()
        missing = [name for name in COLUMNS[:3] if name not in header]
        unknown = [name for name in header if name not in COLUMNS]
        if missing or unknown:
            raise InputError(
                f"{label} has the columns {', '.join(map(str, header)) or 'of an empty file'}; "
                f"expected {', '.join(COLUMNS[:3])} and, if wanted, level and split"
            )
        entries = [_csv_entry(row, f"{label} line {lines.line_num}") for row in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{label} is not a CSV file in UTF-8 ({error})") from None
    if not entries:
        raise InputError(f"{label} has a header and no rows; expected one row a mesh")
    return entries


def _csv_entry(row: Mapping[str | None, str | None], where: str) -> Entry:
    if None in row or None in row.values():
        raise InputError(f"{where} has more or fewer fields than the header")
    values = {str(key): str(value).strip() for key, value in row.items()}
    for name in COLUMNS[:3]:
        if not values[name]:
            raise InputError(f"{where} says nothing under {name!r}; every mesh needs it")
    split = values.get("split")
    if split is not None and split not in SPLITS:
        raise InputError(f"{where} has split {split!r}, expected one of {', '.join(SPLITS)}")
    level = values.get("level")
    file = Path(values["file"]).as_posix()
    try:
        check_name(file)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return Entry(
        file,
        values["subject"],
        values["expression"],
        _level(level, where) if level else None,
        split,
    )


def _level(text: str, where: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise InputError(f"{where} has level {text!r}, expected a number from 0 neutral to 1 apex")
    return level


def _check_files(root: Path, entries: Sequence[Entry], label: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.file in seen:
            raise InputError(f"{label} lists {entry.file} twice; a face may have one row only")
        seen.add(entry.file)
        if not is_file(root / entry.file):
            raise InputError(f"{label} lists {entry.file}, which is not in {root}")


def _labels(
    entries: Sequence[Entry], neutral: str, test: float | None, validation: float | None, seed: int
) -> Labels:
    subjects = sorted({entry.subject for entry in entries})
    # The neutral first, whatever its name: label 0 is then the same thing in every set.
    expressions = sorted({entry.expression for entry in entries}, key=lambda e: (e != neutral, e))
    subject = np.array([subjects.index(entry.subject) for entry in entries], np.int32)
    if entries[0].split is not None:
        if test is not None or validation is not None:
            raise UsageError("the labels have a column split; leave out --test and --validation")
        _check_split(entries)
        split = np.array([SPLITS[entry.split or ""] for entry in entries], np.uint8)
    else:
        test = 0.3 if test is None else test
        parts = split_subjects(len(subjects), test=test, validation=validation or 0.0, seed=seed)
        split = parts[subject]
    levels = [float(e.expression != neutral) if e.level is None else e.level for e in entries]
    return Labels(
        names=_names([entry.file for entry in entries]),
        subjects=subjects,
        expressions=expressions,
        subject=subject,
        expression=np.array([expressions.index(e.expression) for e in entries], np.int32),
        level=np.array(levels, np.float32),
        split=split,
    )


def _check_split(entries: Sequence[Entry]) -> None:
    """Nobody is trained and tested on, or the numbers say nothing about new people."""
    first: dict[str, str | None] = {}
    for entry in entries:
        known = first.setdefault(entry.subject, entry.split)
        if entry.split != known:
            raise InputError(
                f"subject {entry.subject!r} is in the splits {known} and {entry.split}; "
                "a split is by subjects, give each person one"
            )


def _names(files: Sequence[str]) -> list[str]:
    """Paths without suffix; raises InputError where two files differ in their suffix only."""
    first: dict[str, str] = {}
    for file in files:
        name = file.removesuffix(Path(file).suffix)
        if name in first:
            raise InputError(
                f"{first[name]} and {file} would both be named {name!r}; "
                "a face set needs unique names"
            )
        first[name] = file
    return list(first)


def _is_neutral(labels: Labels, neutral: str) -> NDArray[np.bool_]:
    shown = np.array(labels.expressions)[labels.expression]
    return (shown == neutral) & (labels.level == 0)


def _reference_row(labels: Labels, neutral: str) -> int:
    """The first neutral face of a training subject, else the first neutral, else the first face."""
    at_rest = _is_neutral(labels, neutral)
    for rows in (at_rest & (labels.split == SPLITS["train"]), at_rest):
        if rows.any():
            return int(np.flatnonzero(rows)[0])
    return 0
