"""Length of a training in optimiser steps, its learning rate at each step, and its batch size."""

import math
from typing import Final

from facedis_core.train.recipe import Recipe

# Steps of an epoch below which the batch is halved where a recipe allows it.
_EPOCH_STEPS: Final = 8

# Steps between log records where epochs are shorter, and the fewest records of a run.
_RECORD_STEPS: Final = 100
_FEWEST_RECORDS: Final = 20

_ROUNDING: Final = 1e-9  # 50 of 280 epochs in per cent is not an exact number


def steps_per_epoch(faces: int, batch: int) -> int:
    """Number of batches in an epoch; faces that do not fill a batch are left out."""
    return max(1, faces // batch)


def batch_size(batch: int, minimum_batch: int | None, faces: int) -> int:
    """Number of faces in a step.

    Args:
        batch: of the recipe.
        minimum_batch: where an epoch has fewer than 8 steps the batch is halved, not below this;
            None = never.
        faces: number of training faces.
    """
    while (
        minimum_batch is not None
        and batch // 2 >= minimum_batch
        and steps_per_epoch(faces, batch) < _EPOCH_STEPS
    ):
        batch //= 2
    return batch


def total_steps(*, epochs: int, steps: int | None, minimum_steps: int, steps_per_epoch: int) -> int:
    """Number of optimiser steps of a training.

    Args:
        epochs: length in epochs.
        steps: length in steps, in place of `epochs`.
        minimum_steps: a training of fewer steps gets more whole epochs until it has as many; no
            effect on `steps`.
        steps_per_epoch: number of batches in an epoch.
    """
    if steps is not None:
        return steps
    return steps_per_epoch * max(epochs, math.ceil(minimum_steps / steps_per_epoch))


def learning_rate_factor(recipe: Recipe, step: int, steps: int) -> float:
    """The factor on all learning rates in the step with that number (from 0) of so many.

    It rises linearly in the warm-up. Then it falls as half a cosine to 0, or it is multiplied by
    `learning_rate_factor` each time another `learning_rate_every` per cent of the steps are done.
    """
    warmup = round(steps * recipe.warmup / 100)
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if recipe.schedule == "cosine":
        done = max(0, step - warmup) / max(1, steps - warmup)
        return rise * (1 + math.cos(math.pi * done)) / 2
    decays = math.floor(100 * step / (steps * recipe.learning_rate_every) + _ROUNDING)
    return rise * recipe.learning_rate_factor**decays


def kl_factor(recipe: Recipe, epoch: int, epochs: float) -> float:
    """The factor on the KL weights in the epoch with that number (from 0) of so many."""
    if recipe.kl_decay is None:
        return 1.0
    end = epochs * recipe.kl_decay / 100
    return max(0.0, (end - epoch) / end)


def epochs_per_record(steps: int, steps_per_epoch: int) -> int:
    """Number of epochs between two records of the log, and between two evaluations.

    One, or where epochs are short as many as have 100 steps, if that leaves 20 records.
    """
    epochs = steps // steps_per_epoch
    return max(1, min(math.ceil(_RECORD_STEPS / steps_per_epoch), epochs // _FEWEST_RECORDS))
