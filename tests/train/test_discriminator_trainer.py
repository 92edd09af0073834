"""Pre-training of the discriminator: pairs drawn fairly, and something learnt."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic
import torch
from raising import raises

from facedis_core.data.face_set import FaceSet
from facedis_core.nn.face_pairs import FacePairs
from facedis_core.train.discriminator_trainer import DiscriminatorTrainer, draw_pairs
from facedis_core.train.recipe import Recipe
from facedis_core.train.setup import build_discriminator, training_frame

RECIPE = Recipe(
    discriminator_batch_norm=True,
    pretrain_learning_rate=1e-3,
    pretrain_batch=16,
    pretrain_epochs=12,
)


def discriminator_trainer(faces: FaceSet, recipe: Recipe = RECIPE) -> DiscriminatorTrainer:
    network = build_discriminator(recipe, training_frame(faces, recipe), seed=0)
    return DiscriminatorTrainer(network, faces, recipe, seed=0, device=torch.device("cpu"))


def test_pairs_are_of_one_subject_and_of_two_with_equal_chance() -> None:
    subject = np.repeat(np.arange(30), 20)
    rng = np.random.default_rng(0)
    batch = draw_pairs(FacePairs(subject), np.arange(len(subject)), rng)
    assert ((subject[batch.first] == subject[batch.second]) == batch.same).all()
    assert not (batch.first == batch.second).any()
    assert batch.same.mean() == pytest.approx(0.5, abs=0.08)


@pytest.mark.slow
def test_people_are_told_apart() -> None:
    subject = discriminator_trainer(synthetic.face_set(subjects=40, expressions=6, test=10))
    records = [subject.run_epochs() for _ in range(RECIPE.pretrain_epochs)]
    assert [record["epoch"] for record in records] == list(range(1, RECIPE.pretrain_epochs + 1))
    assert records[-1]["loss"] < 0.7 * records[0]["loss"]
    found = subject.evaluate(records[-1])
    assert found["accuracy"] == records[-1]["accuracy"] > 0.8
    assert found["unseen_accuracy"] == subject.accuracy_on_unseen_subjects() > 0.6


def test_an_epoch_stopped_after_any_step_goes_on_as_if_it_had_not_been() -> None:
    recipe = replace(RECIPE, pretrain_batch=6)
    whole = discriminator_trainer(synthetic.face_set(), recipe)
    record = whole.run_epochs()
    stopped = discriminator_trainer(synthetic.face_set(), recipe)
    for step in range(1, 4):
        assert stopped.run_epochs(should_stop=lambda: True) is None
        assert (stopped.epoch.number, stopped.epoch.step) == (0, step)
    assert stopped.run_epochs(should_stop=lambda: True) == record  # the last step ends the epoch
    ours, theirs = stopped.discriminator.state_dict(), whole.discriminator.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_poses_of_the_recipe_are_those_of_its_discriminator(monkeypatch) -> None:
    """In training alone, and each face of a pair in one of its own."""
    faces = synthetic.face_set()
    shown: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    subject = discriminator_trainer(faces, replace(RECIPE, pose_mm=5.0))
    forward = type(subject.discriminator).forward

    def watch(network, first, second):
        shown[network.training].append(torch.stack([first, second]) * network.scale)
        return forward(network, first, second)

    monkeypatch.setattr(type(subject.discriminator), "forward", watch)
    record = subject.run_epochs()
    assert record is not None
    subject.evaluate(record)
    resting = faces.vertices.mean(axis=1) - subject.discriminator.origin.numpy()
    for training, batches in shown.items():
        centres = torch.cat([pair.flatten(0, 1) for pair in batches]).mean(dim=1).numpy()
        apart = np.linalg.norm(centres[:, None] - resting, axis=2).min(axis=1)
        assert (np.median(apart) > 0.5) == training
        assert len(np.unique(centres.round(3), axis=0)) == len(centres) or not training


def test_what_the_discriminator_is_shown_and_how_it_learns(monkeypatch) -> None:
    """Normalised faces, the recipe's learning rate, and eval mode on unseen people."""
    faces = synthetic.face_set()
    subject = discriminator_trainer(faces)
    shown: list[tuple[bool, float]] = []
    forward = type(subject.discriminator).forward

    def watch(network, first, second):
        shown.append((network.training, float(torch.cat([first, second]).abs().max())))
        return forward(network, first, second)

    monkeypatch.setattr(type(subject.discriminator), "forward", watch)
    before = subject.discriminator.head[-1].bias.detach().clone()
    assert subject.run_epochs() is not None
    subject.accuracy_on_unseen_subjects()
    assert [training for training, _ in shown] == [True, False]
    assert all(0.5 < largest < 1.5 for _, largest in shown)
    moved = (subject.discriminator.head[-1].bias.detach() - before).abs()
    assert moved == pytest.approx(RECIPE.pretrain_learning_rate, rel=1e-3)  # Adam's first step


def test_nobody_to_tell_apart() -> None:
    with raises("too-few-faces", "1 people"):
        discriminator_trainer(synthetic.face_set(subjects=1, test=0))
    with raises("too-few-faces", "at least two people"):
        discriminator_trainer(synthetic.face_set(subjects=4, expressions=1, test=0))


def test_too_few_unseen_people_are_no_zero() -> None:
    assert discriminator_trainer(synthetic.face_set(test=1)).accuracy_on_unseen_subjects() is None


def test_people_seen_in_training_are_not_unseen() -> None:
    faces = synthetic.face_set(subjects=4, expressions=6, test=2)
    faces.labels.split[:] = np.tile([0, 0, 0, 0, 1, 1], 4)  # by frames: everybody is in both
    assert discriminator_trainer(faces).accuracy_on_unseen_subjects() is None
