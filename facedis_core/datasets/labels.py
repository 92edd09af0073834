"""From what a path says of a mesh to the labels of a face set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facedis_core.data.face_set import TEST, Labels
from facedis_core.datasets.mesh_files import MeshFileSource, check_align, check_units
from facedis_core.datasets.protocols import People, Published, Split, make_split
from facedis_core.datasets.source import MeshOptions
from facedis_core.errors import InputError
from facedis_core.io.paths import natural_key


class Entry(NamedTuple):
    """One labelled file: its path below the root, with `/`; level 0 neutral to 1 apex."""

    file: str
    subject: str
    expression: str
    level: float


def open_labelled(
    root: Path,
    entries: Sequence[Entry],
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
        root: of their paths.
        entries: the files.
        expressions: all classes, in the order in which they are numbered.
        options: what the user chose.
        neutral: the expression of the faces at rest, if their level is 0; None = unknown yet.
        published: the split of the data set's publication.
        kind: what is made.
        traits: what else is known of the data set: attributes of `MeshFileSource`.

    Raises:
        UsageError: an option out of its range.
        InputError: names that are not unique, a split that does not fit.
    """
    units, align = options.get("units"), options.get("align")
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
    at_rest = np.array([e.expression == neutral and e.level == 0 for e in entries])
    return kind(
        root=root,
        files=[entry.file for entry in entries],
        labels=labels,
        protocol=split.text,
        at_rest=at_rest,
        units=units,
        simplify=options.get("simplify"),
        **{
            "align": "none",
            "notes": notes,
            "candidates": _candidates(at_rest),
            **traits,
            **({} if align is None else {"align": align}),
            "inputs": {**traits.get("inputs", {}), **split.inputs},
        },
    )


def people_of(entries: Sequence[Entry]) -> People:
    """The people that the files show; subjects in natural order: 2 before 10.

    A face is named by the path of its file, without the suffix.
    Raises InputError where two files differ in their suffix only.
    """
    subjects = sorted(dict.fromkeys(entry.subject for entry in entries), key=natural_key)
    number = {subject: k for k, subject in enumerate(subjects)}
    subject = np.array([number[entry.subject] for entry in entries], np.int32)
    return People(_names(entries), subjects, subject)


def make_labels(
    entries: Sequence[Entry], people: People, split: Split, expressions: Sequence[str]
) -> Labels:
    """Labels with `expressions` as classes, in that order, as far as they occur."""
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


def _candidates(at_rest: np.ndarray) -> list[int]:
    """Rows from the best reference on: neutrals, then others; whatever the split, so that all
    splits of a data set have one map of vertices.
    """
    return np.argsort(~at_rest, kind="stable").tolist()


def _names(entries: Sequence[Entry]) -> list[str]:
    first: dict[str, str] = {}
    for entry in entries:
        name = entry.file.rpartition(".")[0]
        if name in first:
            raise InputError(
                f"{first[name]} and {entry.file} would both be named {name!r}; "
                "a face set needs unique names"
            )
        first[name] = entry.file
    return list(first)
