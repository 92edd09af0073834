"""Protocols (`fd-prep --protocol`): split of a data set into training, test and validation."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import SPLITS, TEST, TRAIN, VALIDATION
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.csv_text import brief, brief_list, read_table, read_text
from facedis_core.io.streams import file_id

PAPER: Final = "paper"
USUAL_PART: Final = 0.3
USUAL: Final = f"subjects:{USUAL_PART}"
FILE: Final = "file"
_FOLD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")

# First number of the key of a random stream: its purpose, so that no two streams coincide.
SPLIT_STREAM, SUBJECT_STREAM, MESH_STREAM, SECOND_STREAM, MOTION_STREAM = range(5)


def random_stream(seed: int, *key: int) -> np.random.Generator:
    """A generator for `key`, independent of all other keys and of the order of drawing."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def draw_subjects(
    subjects: int, part: float, seed: int, always: Collection[int] = ()
) -> frozenset[int]:
    """A random `part` of the subjects 0 to S - 1, always including those of `always`."""
    wanted = round(part * subjects)
    others = [s for s in _order(subjects, seed) if s not in always]
    return frozenset(always) | frozenset(others[: max(wanted - len(always), 0)])


def split_subjects(
    subjects: int, tested: Collection[int], *, validation: float, seed: int
) -> NDArray[np.uint8]:
    """Split per subject (S,): `tested` for test, a random `validation` part of the others.

    The validation part does not change the test part.
    Raises UsageError for a part outside 0 to 1, InputError if nobody is left for training.
    """
    if not 0 <= validation < 1:
        raise UsageError(
            f"--validation is {validation:g}, expected a part of the subjects from 0 to below 1",
            ErrorCode.OPTION_VALUE,
        )
    others = [s for s in _order(subjects, seed) if s not in tested]
    validated = round(validation * len(others))
    if validated >= len(others):
        raise InputError(
            f"{subjects} subjects split into {len(tested)} for test and {validated} for validation "
            "leave none for training; use more subjects, or another --protocol or --validation",
            ErrorCode.SPLIT_EMPTY,
        )
    split = np.full(subjects, TRAIN, np.uint8)
    split[list(tested)] = TEST
    split[others[:validated]] = VALIDATION
    return split


def _order(subjects: int, seed: int) -> list[int]:
    return random_stream(seed, SPLIT_STREAM).permutation(subjects).tolist()


class People(NamedTuple):
    """Names of the N faces of a data set, its subjects, and the subject of each face (N,)."""

    names: Sequence[str]
    subjects: Sequence[str]
    subject: NDArray[np.int32]


class Published(NamedTuple):
    """The split of a publication: its description, and the test faces (N,)."""

    text: str
    test: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """A split (N,), its description, and content ids of the files it was read from."""

    split: NDArray[np.uint8]
    text: str
    inputs: Mapping[str, str] = field(default_factory=dict)


def make_split(
    protocol: str | None,
    people: People,
    published: Callable[[People], Published] | None = None,
    *,
    validation: float | None = None,
    seed: int = 0,
) -> Split:
    """Split the faces of a data set by a protocol.

    Args:
        protocol: `paper`, the split of the data set's publication; `subjects:PART`, a random part
            of the subjects for test; `identity-fold:K/N`, every N-th subject from the K-th (from
            1) for test; `file:CSV` with the columns subject and split, or name and split. None =
            `paper` if the data set has such a split, else `subjects:0.3`.
        people: subjects of the faces.
        published: the split of the data set's publication.
        validation: part of the subjects outside the test split; None = 0.
        seed: seed of the random subjects.

    Raises:
        UsageError: an unknown protocol, or a validation part for a protocol by faces.
        InputError: a file that does not fit the faces, or nobody is left for training.
    """
    if protocol is None:
        protocol = PAPER if published else USUAL
    kind, colon, rest = protocol.partition(":")
    if kind == PAPER and not colon:
        if published is None:
            raise UsageError(
                "--protocol paper: this source has no published split; expected "
                "subjects:PART, identity-fold:K/N or file:CSV",
                ErrorCode.OPTION_CONFLICT,
            )
        text, test = published(people)
        tested = frozenset(people.subject[test].tolist())
        if test[np.isin(people.subject, list(tested))].all():
            return _by_subjects(tested, text, people, validation, seed)
        return _by_faces(np.where(test, TEST, TRAIN).astype(np.uint8), text, people, validation)
    if kind == "subjects":
        tested = draw_subjects(len(people.subjects), _part(rest), seed)
        return _by_subjects(tested, "random subjects", people, validation, seed)
    if kind == "identity-fold":
        tested, text = _fold(rest, len(people.subjects))
        return _by_subjects(tested, text, people, validation, seed)
    if kind == FILE and rest:
        return _from_file(rest, people, validation)
    raise UsageError(
        f"--protocol is {protocol!r}, expected paper, subjects:PART, identity-fold:K/N or file:CSV",
        ErrorCode.OPTION_VALUE,
    )


def by_subjects(text: str, tested: Collection[str], people: People) -> Published:
    """A published split with these subjects for test."""
    numbers = [k for k, subject in enumerate(people.subjects) if subject in tested]
    return Published(text, np.isin(people.subject, numbers))


def _by_subjects(
    tested: frozenset[int], text: str, people: People, validation: float | None, seed: int
) -> Split:
    count = len(people.subjects)
    per_subject = split_subjects(count, tested, validation=validation or 0.0, seed=seed)
    return Split(per_subject[people.subject], text)


def _by_faces(
    split: NDArray[np.uint8],
    text: str,
    people: People,
    validation: float | None,
    inputs: Mapping[str, str] | None = None,
) -> Split:
    if validation is not None:
        raise UsageError(
            f"--validation takes a part of the subjects, but the protocol ({text}) goes by faces "
            "or by a file; leave it out, or choose --protocol subjects:PART or identity-fold:K/N",
            ErrorCode.OPTION_CONFLICT,
        )
    if not (split == TRAIN).any():
        raise InputError(
            f"the protocol ({text}) leaves none of {len(people.subjects)} subjects for training; "
            f"try --protocol {USUAL}",
            ErrorCode.SPLIT_EMPTY,
        )
    return Split(split, text, inputs or {})


def _part(text: str) -> float:
    try:
        part = float(text)
    except ValueError:
        part = -1.0
    if not 0 <= part < 1:
        raise UsageError(
            f"--protocol subjects:{text}: expected a part of the subjects from 0 to below 1",
            ErrorCode.OPTION_VALUE,
        )
    return part


def _fold(text: str, subjects: int) -> tuple[frozenset[int], str]:
    match = _FOLD.fullmatch(text)
    fold, folds = map(int, match.groups()) if match else (0, 0)
    if not 1 <= fold <= folds:
        raise UsageError(
            f"--protocol identity-fold:{text}: expected K/N with K from 1 to N, such as 3/12",
            ErrorCode.OPTION_VALUE,
        )
    if folds > subjects:
        raise InputError(
            f"{subjects} subjects cannot be split into {folds} folds; ask for fewer",
            ErrorCode.TOO_FEW_FACES,
        )
    return frozenset(range(fold - 1, subjects, folds)), f"identity fold {fold} of {folds}"


def _from_file(path: str, people: People, validation: float | None) -> Split:
    content = read_text(path)
    column, listed = _read_csv(content, path, people)
    own = _names(people, column)
    left = [name for name in own if name not in listed]
    if left:
        raise InputError(
            f"{path} does not list the {column} {brief(left[0])}; every one needs a split",
            ErrorCode.LABEL_MISSING,
        )
    split = np.array([SPLITS[listed[name]] for name in own], np.uint8)
    pairs = np.unique(np.stack([people.subject, split], axis=1), axis=0)
    divided = len(pairs) > len(np.unique(people.subject))
    text = "faces of a file" if divided else "subjects of a file"
    inputs = {"protocol": file_id(content)}
    return _by_faces(split, text, people, validation, inputs)


def _names(people: People, column: str) -> Sequence[str]:
    """Names (N,) of the faces or of their subjects, by the column of a file."""
    if column == "name":
        return people.names
    return [people.subjects[s] for s in people.subject]


def _read_csv(content: bytes, label: str, people: People) -> tuple[str, dict[str, str]]:
    """The naming column of a split file, and name -> split."""
    column = "name"

    def check_header(header: Sequence[str]) -> None:
        nonlocal column
        if sorted(header) not in (["split", "subject"], ["name", "split"]):
            raise InputError(
                f"{label} has the columns {brief_list(header) or 'of an empty file'}; "
                "expected subject and split, or name and split",
                ErrorCode.CSV_COLUMNS,
            )
        column = "subject" if "subject" in header else "name"

    known: frozenset[str] = frozenset()
    listed: dict[str, str] = {}
    for where, values in read_table(content, label, check_header):
        known = known or frozenset(_names(people, column))
        name, split = values[column], values["split"]
        if split not in SPLITS:
            raise InputError(
                f"{where} has split {brief(split)}, expected one of {', '.join(SPLITS)}",
                ErrorCode.CSV_VALUE,
            )
        if name not in known:
            raise InputError(
                f"{label} lists the {column} {brief(name)}, which is not in the data",
                ErrorCode.NAME_UNKNOWN,
            )
        if listed.setdefault(name, split) != split:
            raise InputError(
                f"{where} gives {brief(name)} a second split; expected one each",
                ErrorCode.LABEL_CONFLICT,
            )
    return column, listed
