"""One step and one run of joint training: what moves, what does not, and what comes out."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic
import torch
from raising import raises
from trainers import trainer

from facedis_core.data.face_set import FaceSet
from facedis_core.evaluate.evaluation import evaluate_face_set
from facedis_core.train.adversarial_trainer import AdversarialTrainer, loss_weights
from facedis_core.train.batches import Batch
from facedis_core.train.recipe import Recipe, load_recipe
from facedis_core.train.setup import build_auto_encoder, build_discriminator, training_frame

SMALL = Recipe(
    identity=8,
    expression=8,
    batch=7,
    epochs=2,
    learning_rate=1e-3,
    reconstruction=400.0,
    discriminator=0.1,
    laplacian=1e-2,
)


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return synthetic.face_set()


@pytest.mark.parametrize("adversary", [True, False])
@pytest.mark.parametrize("neutrals", [True, False])
def test_terms_of_the_four_cells(faces: FaceSet, neutrals: bool, adversary: bool) -> None:
    weights = {"neutral": float(neutrals), "neutral_expression": float(neutrals)}
    recipe = replace(SMALL, batch=28, **weights)
    record = trainer(faces, recipe, neutrals=neutrals, adversary=adversary).run_epochs()
    assert record is not None
    always = {"reconstruction", "kl_identity", "kl_expression", "neutral_latent", "laplacian"}
    assert always <= set(record)
    assert ({"neutral", "neutral_expression"} <= set(record)) == neutrals
    assert ({"discriminator", "real_accuracy", "fake_accuracy"} <= set(record)) == adversary
    assert all(np.isfinite(value) for value in record.values())


def normalised(subject: AdversarialTrainer, positions: np.ndarray) -> torch.Tensor:
    return subject.network.normalise(subject.batches.faces.batch(positions))


def test_a_fake_is_detached_in_the_discriminators_step(faces: FaceSet) -> None:
    subject = trainer(faces, SMALL)
    before = {k: v.clone() for k, v in subject.discriminator.state_dict().items()}
    x = normalised(subject, np.arange(4))
    identity = x.clone().requires_grad_(True)
    subject._discriminator_step(x, x, identity.detach())
    assert identity.grad is None
    assert all(p.grad is None for p in subject.network.parameters())
    after = subject.discriminator.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)


def test_the_generators_loss_moves_the_face_but_not_the_discriminator(faces: FaceSet) -> None:
    recipe = replace(SMALL, discriminator_batch_norm=True)
    subject = trainer(faces, recipe)
    before = {k: v.clone() for k, v in subject.discriminator.state_dict().items()}
    x = normalised(subject, np.arange(4))
    identity = x.clone().requires_grad_(True)
    subject._generator_loss(x, identity).backward()
    assert identity.grad.any()
    assert all(p.grad is None for p in subject.discriminator.parameters())
    for key, value in subject.discriminator.state_dict().items():
        assert torch.equal(before[key], value), key


def test_the_discriminator_reaches_the_identity_decoder_alone(faces: FaceSet) -> None:
    """With every other weight at zero only the identity path has a gradient."""
    nothing = dict.fromkeys(("kl_identity", "kl_expression", "neutral_latent", "laplacian"), 0.0)
    recipe = replace(SMALL, **nothing, reconstruction=0.0, gradient_clip=0.0)
    subject = trainer(faces, recipe)
    faces = subject.batches.faces.batch(np.arange(7))
    subject._train_step(Batch(faces, faces, train_discriminator=True))
    gradients = dict(subject.network.named_parameters())
    assert gradients["identity_decoder.output.weight"].grad.any()
    assert not gradients["expression_decoder.output.weight"].grad.any()


def test_neutrals_wanted_where_there_are_none() -> None:
    with raises("neutral-missing", "--no-neutrals"):
        trainer(synthetic.face_set(neutrals=False), SMALL, neutrals=True)


def test_a_diverged_run_says_where_and_which_term(faces: FaceSet) -> None:
    subject = trainer(faces, SMALL)
    with torch.no_grad():
        subject.network.identity_decoder.output.bias.fill_(torch.nan)
    with raises("diverged", "epoch 1, step 1: reconstruction"):
        subject.run_epochs()
    with raises("diverged", "the predictions are not finite; lower learning_rate"):
        subject.evaluate()


def test_weights_of_the_losses_by_recipe() -> None:
    recipe = Recipe(reconstruction=10.0, neutral=0.5, kl_identity=2.0)
    weights = loss_weights(recipe, kl_factor=0.75)
    assert (weights.reconstruction, weights.neutral, weights.kl_identity) == (10.0, 5.0, 1.5)


def test_the_last_decoder_layers_may_learn_faster(faces: FaceSet) -> None:
    """The first step of Adam moves every weight by its learning rate."""
    recipe = replace(SMALL, decoder_init="default", output_learning_rate=5.0, weight_decay=0.0)
    subject = trainer(faces, recipe, adversary=False)
    before = {name: value.clone() for name, value in subject.network.named_parameters()}
    subject._train_step(next(subject.batches.epoch(0)))
    for name, value in subject.network.named_parameters():
        rate = 1e-3 * (5 if ".output." in name else 1)
        assert (value - before[name]).abs().max().item() <= rate * 1.001, name
    moved = subject.network.identity_decoder.output.weight
    step = (moved - before["identity_decoder.output.weight"]).abs().median().item()
    assert step == pytest.approx(5e-3, rel=1e-2)


def test_frame_of_the_paper_and_of_other_sets(faces: FaceSet) -> None:
    fixed = training_frame(faces, Recipe(scale=573.0))
    assert fixed.scale == 573.0
    assert not fixed.origin.any()
    free = training_frame(faces, Recipe())
    rows = faces.rows(0)
    mean = faces.vertices[rows].mean(axis=0)
    assert free.origin == pytest.approx(mean.mean(axis=0), abs=1e-4)
    spans = np.linalg.norm(faces.vertices[rows] - mean.mean(axis=0), axis=-1)
    assert free.scale == pytest.approx(spans.max(), rel=1e-5)
    reach = np.linalg.norm(faces.vertices[rows] - mean, axis=-1).mean(axis=-1).max()
    assert free.reach_mm == pytest.approx(reach, rel=1e-5)


def test_same_seed_same_weights_another_seed_others(faces: FaceSet) -> None:
    def weights(seed: int) -> torch.Tensor:
        subject = trainer(faces, replace(SMALL, batch=28), seed=seed)
        subject.run_epochs()
        return subject.network.identity_decoder.output.weight.detach()

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.slow
def test_a_handful_of_faces_is_learnt_by_heart(faces: FaceSet) -> None:
    """Eight faces to below 1 mm; if not, the method is wrong somewhere."""
    recipe = load_recipe(
        "pointnet",
        neutrals=False,
        changes=[
            *("batch=8", "epochs=500", "learning_rate=2e-3"),
            "discriminator=0",
        ],
    )
    few = synthetic.face_set(subjects=2, expressions=4, test=0)
    subject = trainer(few, recipe, adversary=False)
    start = evaluate_face_set(subject.predict, few, few.rows(0)).metrics["e_rec"]["mean"]
    while not subject.is_finished:
        subject.run_epochs()
    subject.network.eval()
    error = evaluate_face_set(subject.predict, few, few.rows(0)).metrics["e_rec"]["mean"]
    assert start > 2.0
    assert error < 1.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_learns_as_well(faces: FaceSet, precision: str) -> None:
    recipe = replace(
        SMALL, epochs=20, learning_rate_every=100, neutral=1.0, discriminator_batch_norm=True
    )
    frame = training_frame(faces, recipe)
    errors = []
    for device, kind in (("cpu", "fp32"), ("cuda", precision)):
        subject = AdversarialTrainer(
            build_auto_encoder(recipe, frame, faces, 0),
            build_discriminator(recipe, frame, 0),
            faces,
            recipe,
            neutrals=True,
            seed=0,
            device=torch.device(device),
            precision=kind,
        )
        for _ in range(20):
            record = subject.run_epochs()
            assert record is not None
        errors.append(subject.evaluate()["test"]["e_rec"]["mean"])
        states = [s for o in subject.optimizers.values() for s in o.state.values()]
        tensors = [tensor for state in states for tensor in state.values()]
        assert all(tensor.isfinite().all() for tensor in tensors)
    assert errors[1] == pytest.approx(errors[0], rel=0.2)


@pytest.mark.slow
def test_unseen_people_are_closer_than_the_mean_face() -> None:
    many = synthetic.face_set(subjects=40, expressions=4, test=10)
    recipe = replace(SMALL, batch=20, epochs=30, learning_rate_every=100)
    subject = trainer(many, recipe, adversary=False)
    while not subject.is_finished:
        subject.run_epochs()
    found = subject.evaluate()["test"]
    rows = many.rows(1)
    mean = many.mean_face(many.rows(0))
    of_the_mean = np.linalg.norm(many.vertices[rows] - mean, axis=-1).mean()
    assert found["e_rec"]["mean"] < 0.7 * of_the_mean
