"""What a method knew of neutrals when it was fitted: the condition under which its numbers count.

`labelled`: the neutral of each person was given (the paper's "+ne-gt"). `present`: it was among
the person's faces, and nobody said which (the paper's "-ne-gt"). `absent`: it was not among them.
"""

from typing import Final, Literal, get_args

import numpy as np

from facedis_core.data.face_set import TRAIN, FaceSet
from facedis_core.model.model import Model

Condition = Literal["labelled", "present", "absent"]

RESTING_LEVEL: Final = 0.01  # largest level of a neutral face, as in CoMA


def unlabelled_condition(face_set: FaceSet) -> Condition:
    """`present` if most people of the training split have a face at rest in it, else `absent`.

    A set that does not know levels, where every face is at its apex, counts as `absent`.
    """
    labels, rows = face_set.labels, face_set.rows(TRAIN)
    subject, level = np.asarray(labels.subject)[rows], np.asarray(labels.level)[rows]
    people, resting = np.unique(subject), np.unique(subject[level <= RESTING_LEVEL])
    return "present" if 2 * len(resting) > len(people) else "absent"


def training_condition(face_set: FaceSet, *, neutrals: bool) -> Condition:
    """The condition of a model trained on a set, with its neutrals or without."""
    return "labelled" if neutrals else unlabelled_condition(face_set)


def model_condition(model: Model) -> Condition | None:
    """The condition of a model, which it stores with its recipe; None = unknown."""
    stored = model.recipe.get("condition")
    return next((known for known in get_args(Condition) if stored == known), None)


def is_fair(baseline: str | None, model: str | None) -> bool:
    """Whether a baseline of one condition may be held against a model of another.

    They have the same condition, or the model was given the neutrals, which a baseline did without.
    """
    return baseline is not None and model in (baseline, "labelled")
