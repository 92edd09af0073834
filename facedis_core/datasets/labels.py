"""Labels of mesh files: subjects, expressions, levels and split of a face set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facedis_core.data.face_set import TEST, Labels
from facedis_core.data.units import check_units
from facedis_core.datasets.mesh_files import MeshFileSource, check_align
from facedis_core.datasets.protocols import People, Published, Split, make_split
from facedis_core.datasets.source import MeshOptions
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.paths import check_name, natural_key


class LabelledFile(NamedTuple):
    """A labelled file: path below the root (with `/`), subject, expression, level 0 to 1."""

    file: str
    subject: str
    expression: str
    level: float


def open_labelled(
    root: str | Path,
    entries: Sequence[LabelledFile],
    expressions: Sequence[str],
    options: MeshOptions,
    *,
    neutral: str | None,
    published: Callable[[People], Published] | None = None,
    kind: type[MeshFileSource] = MeshFileSource,
    **traits: Any,
) -> MeshFileSource:
    """A source of labelled mesh files.

    Args:
        root: folder of the files.
        entries: the files.
        expressions: all expressions, in the order of their numbers.
        options: options of the user.
        neutral: name of the neutral expression (at level 0); None = known only from the meshes.
        published: the split of the data set's publication.
        kind: class of the source.
        traits: further attributes of `MeshFileSource`.

    Raises:
        UsageError: an option value that is not allowed.
        InputError: names that are not unique, or a split that does not fit the faces.
    """
    units, align = options.get("units") or "auto", options.get("align")
    check_units(units)
    check_align(align, stable="stable_vertices" in traits)
    people = people_of(entries)
    split = make_split(
        options.get("protocol"),
        people,
        published,
        validation=options.get("validation"),
        seed=options.get("seed", 0),
    )
    labels = make_labels(entries, people, split, expressions)
    notes = list(traits.pop("notes", ()))
    if not (labels.split == TEST).any():
        notes.append(f"the protocol ({split.text}) leaves no face to test on")
    is_neutral = np.array([e.expression == neutral and e.level == 0 for e in entries])
    return kind(
        root=root,
        files=[entry.file for entry in entries],
        labels=labels,
        protocol=split.text,
        is_neutral=is_neutral,
        units=units,
        simplify=options.get("simplify"),
        **{
            "align": "none",
            "notes": notes,
            "candidates": _candidates(is_neutral),
            **traits,
            **({} if align is None else {"align": align}),
            "inputs": {**traits.get("inputs", {}), **split.inputs},
        },
    )


def people_of(entries: Sequence[LabelledFile]) -> People:
    """Names and subjects of the files; subjects in natural order (2 before 10).

    The name of a face is the path of its file without suffix.
    Raises InputError if two files differ only in their suffix, or one has a control character.
    """
    subjects = sorted(dict.fromkeys(entry.subject for entry in entries), key=natural_key)
    number = {subject: k for k, subject in enumerate(subjects)}
    subject = np.array([number[entry.subject] for entry in entries], np.int32)
    return People(_names(entries), subjects, subject)


def make_labels(
    entries: Sequence[LabelledFile], people: People, split: Split, expressions: Sequence[str]
) -> Labels:
    """Labels of the entries; `expressions` that do not occur are left out."""
    occurring = {entry.expression for entry in entries}
    classes = [name for name in expressions if name in occurring]
    number = {name: k for k, name in enumerate(classes)}
    return Labels(
        names=people.names,
        subjects=people.subjects,
        expressions=classes,
        subject=people.subject,
        expression=np.array([number[entry.expression] for entry in entries], np.int32),
        level=np.array([entry.level for entry in entries], np.float32),
        split=split.split,
    )


def _candidates(is_neutral: np.ndarray) -> list[int]:
    """Rows in the order in which they may be the reference mesh: neutrals first.

    The split does not matter, so that all splits of a data set have the same vertex map.
    """
    return np.argsort(~is_neutral, kind="stable").tolist()


def _names(entries: Sequence[LabelledFile]) -> list[str]:
    first: dict[str, str] = {}
    for entry in entries:
        name = entry.file.rpartition(".")[0]
        check_name(name)
        if name in first:
            raise InputError(
                f"{first[name]} and {entry.file} would both be named {name!r}; "
                "a face set needs unique names",
                ErrorCode.NAME_DUPLICATE,
            )
        first[name] = entry.file
    return list(first)
