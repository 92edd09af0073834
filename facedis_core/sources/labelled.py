"""From what a path says of a mesh to the labels of a face set."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facedis_core.errors import InputError
from facedis_core.faceset import Labels
from facedis_core.paths import natural_key
from facedis_core.sources.protocols import People, Split


class Entry(NamedTuple):
    """One labelled file: its path below the root, with `/`; level 0 neutral to 1 apex."""

    file: str
    subject: str
    expression: str
    level: float


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


def candidates(labels: Labels, at_rest: np.ndarray) -> list[int]:
    """Rows from the best reference on: neutrals to train on, other neutrals, other faces."""
    trained = labels.split == 0
    order = np.lexsort((np.arange(len(at_rest)), ~trained, ~at_rest))
    return order.tolist()


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
