"""Checks of the whole content of a file of ours: fd-info --verify, in constant memory."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import (
    SPLITS,
    TRAIN,
    FaceSet,
    Labels,
    divides_people,
    parse_face_set,
)
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.distances import vertex_distance
from facedis_core.io.safetensors_file import SafetensorsFile, content_id
from facedis_core.io.streams import naming
from facedis_core.io.text import shown

# Largest extent of the mean face, mm: from a baby's narrow face to a head with its neck, with a
# margin. Values outside mean metres, centimetres or micrometres.
PLAUSIBLE_EXTENT_MM: Final = (80.0, 500.0)
# Distance to the mean face, relative to its largest extent, of faces that are broken, misplaced or
# in another unit: a wide-open mouth and a very large head differ by some hundredths.
DOUBTED_DISTANCE: Final = 0.25

_BLOCK_BYTES: Final = 4 << 20  # of values checked at a time; peak memory is some four times that


def verify_file(
    source: str, file: SafetensorsFile, warn: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Look at everything in a file of ours; a face set's findings come with its id.

    Args:
        source: name of the file, for messages.
        file: its content.
        warn: called with a line about what is doubtful but no error.

    Raises:
        InputError: a value is not finite, the stored id does not fit the content, or a face set's
            labels, splits, neutrals or vertex map contradict each other, or none of its faces is
            for training.
    """
    facts: dict[str, Any] = {}
    with naming(source):
        if file.kind == "faceset":
            facts = _verify_face_set(
                parse_face_set(file), lambda line: warn(f"{shown(source)}: {line}")
            )
        else:
            _check_values(file)
        return {"id": _verify_id(file), **facts}


def _check_values(file: SafetensorsFile) -> None:
    for name, array in file.tensors.items():
        if array.dtype.kind == "f":
            values = array.reshape(-1)
            for rows in _blocks(values):
                if not np.isfinite(values[rows]).all():
                    raise InputError(
                        f"tensor {name!r} is not finite; make it again", ErrorCode.NOT_FINITE
                    )


def _verify_id(file: SafetensorsFile) -> str | None:
    """The id, which must be that of the content; None of a kind that has none."""
    if file.kind in ("training", "blendshapes"):
        return None
    if file.kind == "faceset":
        named = {k: v for k, v in file.metadata.items() if k not in ("id", "history")}
    else:
        named = file.metadata["config"]
    found, stored = content_id(file.tensors, named), file.metadata.get("id")
    if found != stored:
        raise InputError(
            f"has the id {stored} but its content {found}; it was changed", ErrorCode.ID_MISMATCH
        )
    return found


def _verify_face_set(faces: FaceSet, warn: Callable[[str], None]) -> dict[str, Any]:
    """Labels first, which costs nothing; then neutrals; then every face, twice."""
    labels = faces.labels
    _check_vertex_map(faces.preparation.vertex_index)
    _check_classes(labels)
    if not (labels.split == TRAIN).any():
        raise InputError(
            f"has none of its {len(labels.names)} faces in train, expected some to train "
            "on; prepare it with another --protocol",
            ErrorCode.SPLIT_EMPTY,
        )
    if not divides_people(faces.protocol):
        _check_people(labels, faces.protocol)
    lacking = {
        "without_neutral": _without_neutral(faces.neutrals, labels.subjects),
        "without_neutral_eval": _without_neutral(faces.neutrals_eval, labels.subjects),
    }
    return {**lacking, **_shape(faces, warn)}


def _check_vertex_map(vertex_index: NDArray[np.int32]) -> None:
    """No raw vertex is two prepared ones."""
    vertices, counts = np.unique(vertex_index, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"vertex_index names the raw vertex {vertices[int(counts.argmax())]} "
            f"{counts.max()} times, expected each at most once; prepare it again",
            ErrorCode.VERTEX_INDEX,
        )


def _check_classes(labels: Labels) -> None:
    """Names of subjects and of expressions are unique, and each has a face."""
    if not len(labels.names):
        raise InputError("holds no faces; prepare it again", ErrorCode.EMPTY)
    for kind, names, found in (
        ("subject", labels.subjects, labels.subject),
        ("expression", labels.expressions, labels.expression),
    ):
        twins = [name for name, count in Counter(names).items() if count > 1]
        if twins:
            raise InputError(
                f"has two {kind}s named {twins[0]!r}; prepare it again", ErrorCode.NAME_DUPLICATE
            )
        counts = np.bincount(found, minlength=len(names))
        if not counts.all():
            raise InputError(
                f"has no face of the {kind} {names[int(counts.argmin())]!r}; prepare it again",
                ErrorCode.METADATA,
            )


def _check_people(labels: Labels, protocol: str) -> None:
    """Nobody is both trained on and tested or validated on."""
    people = {code: set(labels.subject[labels.split == code]) for code in SPLITS.values()}
    for name, code in SPLITS.items():
        shared = sorted(people[TRAIN] & people[code])
        if code != TRAIN and shared:
            others = f" ({len(shared)} subjects in all)" if len(shared) > 1 else ""
            raise InputError(
                f"has faces of {labels.subjects[shared[0]]!r} both in train and in "
                f"{name}{others}, but its protocol {protocol!r} does not divide people; prepare "
                "it with each subject in one split",
                ErrorCode.SPLIT_OVERLAP,
            )


def _without_neutral(neutrals: NDArray[np.float32], subjects: Sequence[str]) -> list[str]:
    """Subjects without a neutral (all NaN) in (S, V, 3); all other neutrals must be finite."""
    lacking = []
    for name, neutral in zip(subjects, neutrals, strict=True):
        if np.isnan(neutral).all():
            lacking.append(name)
        elif not np.isfinite(neutral).all():
            raise InputError(
                f"a neutral of {name!r} is finite only in part, expected all values "
                "finite, or all NaN where unknown; prepare the set again",
                ErrorCode.NOT_FINITE,
            )
    return lacking


def _shape(faces: FaceSet, warn: Callable[[str], None]) -> dict[str, Any]:
    """Width, height and depth of the mean of all faces, and how far they lie from it, mm."""
    # this also looks at every value
    mean_face = faces.mean_face(faces.rows(None), _rows_of_block(faces.vertices))
    size = np.ptp(mean_face, axis=0)
    low, high = PLAUSIBLE_EXTENT_MM
    if not low <= size.max() <= high:
        width, height, depth = size
        warn(
            f"{width:.3g} x {height:.3g} x {depth:.3g} mm is no size of a face; were "
            "the units right (fd-prep --units)?"
        )
    distances = _distances(faces.vertices, mean_face)
    limit = DOUBTED_DISTANCE * float(size.max())
    _doubt_farthest("face", faces.labels.names, distances, limit, warn)
    neutral = np.fmax(  # mostly one and the same
        _distances(faces.neutrals, mean_face), _distances(faces.neutrals_eval, mean_face)
    )
    _doubt_farthest("neutral of", faces.labels.subjects, neutral, limit, warn)
    return {
        "mean_face_mm": [_rounded(extent) for extent in size],
        "mean_distance_mm": _rounded(distances.mean()),
        "maximum_distance_mm": _rounded(distances.max()),
        "farthest": faces.labels.names[int(distances.argmax())],
    }


def _distances(faces: NDArray[np.float32], mean_face: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean vertex distance of faces (N, V, 3) mm to the mean face (V, 3); NaN stays NaN."""
    return np.concatenate([vertex_distance(faces[rows], mean_face) for rows in _blocks(faces)])


def _doubt_farthest(
    what: str,
    names: Sequence[str],
    distances: NDArray[np.float64],
    limit: float,
    warn: Callable[[str], None],
) -> None:
    """Warn where one lies farther from the mean face than the limit, mm; NaN is not there."""
    known = np.flatnonzero(np.isfinite(distances))
    if not len(known) or distances[known].max() <= limit:
        return
    farthest = known[int(distances[known].argmax())]
    others = distances[known[known != farthest]]
    compared = f", the others {others.mean():.3g} mm on average" if len(others) else ""
    warn(
        f"the {what} {names[farthest]!r} lies {distances[farthest]:.3g} mm from the "
        f"mean face{compared}; is it broken, or in another unit?"
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _blocks(array: NDArray[Any]) -> Iterator[slice]:
    """The rows of an array, as many at a time as make a block."""
    count = _rows_of_block(array)
    for start in range(0, len(array), count):
        yield slice(start, start + count)


def _rows_of_block(array: NDArray[Any]) -> int:
    return max(_BLOCK_BYTES // max(array[:1].nbytes, 1), 1)
