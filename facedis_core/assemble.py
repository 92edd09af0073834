"""From faces that were read to the face set: copied, aligned, with everybody's neutral."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.faceset import TRAIN, FaceSetWriter, Labels
from facedis_core.follow import Like
from facedis_core.preparation import Preparation
from facedis_core.procrustes import align_by_neutrals, align_to, mean_target
from facedis_core.scratch import Scratch
from facedis_core.sources import Settled

# Faces copied at a time.
_BLOCK: Final = 64


def assemble(
    out: FaceSetWriter,
    scratch: Scratch,
    settled: Settled,
    planned: Labels,
    preparation: Preparation,
    like: Like | None,
    warn: Callable[[str], None],
) -> None:
    """Fill a set with the faces that stay, align them, and find everybody's neutral.

    Args:
        out: the set.
        scratch: what was read, by the rows and subjects of the labels `planned`.
        settled: which rows stay, and their labels.
        planned: labels before anything was read.
        preparation: says how to align.
        like: what to align to, and who may be how far from it; None = the set's own mean face.
        warn: called with a line about faces that are doubtful.
    """
    labels = settled.labels
    for start in range(0, len(settled.rows), _BLOCK):
        rows = settled.rows[start : start + _BLOCK]
        out.vertices[start : start + len(rows)] = scratch.faces(rows)
        out.release()
    place = {name: k for k, name in enumerate(labels.subjects)}
    for subject in scratch.neutrals:
        if (name := planned.subjects[subject]) in place:
            out.neutrals[place[name]] = scratch.neutral(subject)
    if preparation.alignment != "none":
        _align(out, settled, preparation, like)
    if like:
        like.check_reach(out.vertices, labels.names, warn)
    _fill_neutrals(out, labels, settled.at_rest)


def _align(
    out: FaceSetWriter, settled: Settled, preparation: Preparation, like: Like | None
) -> None:
    """Bring faces and known neutrals, in place, to the mean face: that of `like`, else their own.

    Where stable vertices are known, neutrals are aligned as a whole, to the mean neutral of
    training, and every other face to its own neutral by the stable vertices.
    """
    scale = preparation.alignment == "similarity"
    everywhere = np.arange(out.vertices.shape[1])
    stable = np.array(preparation.stable_vertices, np.intp)
    trained = settled.labels.split == TRAIN
    chosen = everywhere
    if len(stable) and (trained & settled.at_rest).any():
        trained = trained & settled.at_rest
    elif len(stable):
        chosen = stable
    target: NDArray[Any]
    if like is not None:
        target = like.mean_face
    else:
        target = mean_target(out.vertices, np.flatnonzero(trained), chosen, scale=scale)
    if len(stable):
        align_by_neutrals(out.vertices, _own_neutral(settled), target, stable)
    else:
        align_to(out.vertices, target, everywhere, scale=scale)
    align_to(out.neutrals, target, everywhere, scale=scale)


def _own_neutral(settled: Settled) -> NDArray[np.intp]:
    """For each face the row of its subject's first neutral, -1 where there is none."""
    subject = settled.labels.subject
    first = np.full(len(settled.labels.subjects), -1, np.intp)
    for row in np.flatnonzero(settled.at_rest)[::-1]:
        first[subject[row]] = row
    return first[subject]


def _fill_neutrals(out: FaceSetWriter, labels: Labels, at_rest: NDArray[np.bool_]) -> None:
    """Neutrals where no block brought one: the mean of the subject's neutral faces.

    For training only of those outside the test split; a subject that is not trained on at all may
    use all of its own, as `neutrals_eval` always does.
    """
    for subject, neutral in enumerate(out.neutrals):
        if np.isnan(neutral).any():
            mine = (labels.subject == subject) & at_rest
            trained = ((labels.subject == subject) & (labels.split == TRAIN)).any()
            for target, rows in (
                (out.neutrals, mine & (labels.split == TRAIN) if trained else mine),
                (out.neutrals_eval, mine),
            ):
                if rows.any():
                    target[subject] = out.vertices[rows].mean(0, dtype=np.float64)
            out.release()
        else:
            out.neutrals_eval[subject] = neutral
