"""Lengths and learning rates of trainings against step-by-step twins."""

import pytest
import torch

from facedis_core.train.recipe import Recipe, load_recipe
from facedis_core.train.schedule import (
    batch_size,
    epochs_per_record,
    kl_factor,
    learning_rate_factor,
    steps_per_epoch,
    total_steps,
)


@pytest.mark.parametrize(("name", "epochs"), [("coma", 300), ("bu3dfe", 280), ("facescape", 280)])
def test_recipes_of_the_paper_decay_every_50_epochs(name: str, epochs: int) -> None:
    """To the bit, since a seed must give the same weights."""
    recipe = load_recipe(name, neutrals=False)
    assert recipe.epochs == epochs
    for per_epoch in (1, 3, 575):
        steps = epochs * per_epoch
        for epoch in range(epochs):
            for step in {epoch * per_epoch, (epoch + 1) * per_epoch - 1}:
                assert learning_rate_factor(recipe, step, steps) == 0.7 ** (epoch // 50)
    kl = [(350 - epoch) / 350 if name == "coma" else 1.0 for epoch in range(epochs)]
    assert [kl_factor(recipe, epoch, epochs) for epoch in range(epochs)] == kl


def rates(recipe: Recipe, steps: int) -> list[float]:
    return [learning_rate_factor(recipe, step, steps) for step in range(steps)]


def test_a_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
    expected = []
    for _ in range(40):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates(Recipe(schedule="cosine"), 40) == pytest.approx(expected, abs=1e-12)


def test_a_warmup_rises_to_the_schedule_after_it() -> None:
    cosine = Recipe(schedule="cosine", warmup=20.0)
    found = rates(cosine, 50)
    assert found[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert found[10:] == pytest.approx(rates(Recipe(schedule="cosine"), 40))
    step = Recipe(warmup=20.0, learning_rate_factor=0.5, learning_rate_every=10.0)
    assert rates(step, 50) == pytest.approx(
        [min(1.0, (k + 1) / 10) * 0.5 ** (k // 5) for k in range(50)]
    )


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_a_longer_run_has_the_same_schedule_stretched(schedule: str) -> None:
    recipe = Recipe(schedule=schedule, learning_rate_every=12.5)
    assert rates(recipe, 800)[::10] == pytest.approx(rates(recipe, 80))
    assert kl_factor(Recipe(kl_decay=50.0), 30, 100) == kl_factor(Recipe(kl_decay=50.0), 3, 10)
    assert kl_factor(Recipe(kl_decay=50.0), 9, 10) == 0.0  # never negative


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ({"epochs": 60, "steps": None, "minimum_steps": 0}, 180),
        ({"epochs": 60, "steps": None, "minimum_steps": 180}, 180),
        ({"epochs": 60, "steps": None, "minimum_steps": 200}, 201),  # whole epochs
        ({"epochs": 60, "steps": 20, "minimum_steps": 200}, 20),
    ],
)
def test_total_steps(length: dict[str, int | None], expected: int) -> None:
    assert total_steps(**length, steps_per_epoch=3) == expected


@pytest.mark.parametrize(
    ("minimum", "faces", "expected"),
    [
        (8, 72, 8),  # 9 steps an epoch
        (8, 200, 16),  # 12
        (8, 256, 32),  # 8
        (8, 10, 8),
        (10, 10, 16),
        (64, 10, 32),
        (None, 10, 32),
    ],
)
def test_small_sets_halve_the_batch(minimum: int | None, faces: int, expected: int) -> None:
    assert batch_size(32, minimum, faces) == expected


def test_an_epoch_has_whole_batches_and_at_least_one_step() -> None:
    assert [steps_per_epoch(faces, 8) for faces in (3, 8, 15, 16)] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("steps", "per_epoch", "expected"),
    [
        (280 * 369, 369, 1),
        (2 * 4, 4, 1),  # a few epochs have a record each, however short
        (39 * 4, 4, 1),
        (60 * 4, 4, 3),  # 20 records
        (2000 * 2, 2, 50),  # 100 steps
        (2000, 1, 100),
    ],
)
def test_short_epochs_share_a_record(steps: int, per_epoch: int, expected: int) -> None:
    assert epochs_per_record(steps, per_epoch) == expected
