"""The linear network: its start, its step, and what it learns without a neutral."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import synthetic
import torch
from raising import raises
from trainers import trainer

from facedis_core.data.face_set import TEST, TRAIN, FaceSet
from facedis_core.evaluate.baselines import evaluate_baselines, fit_baselines
from facedis_core.evaluate.evaluation import Prediction, evaluate_face_set
from facedis_core.model.config import LinearConfig
from facedis_core.nn.augment import PoseVariation, random_poses
from facedis_core.nn.autoencoder import AutoEncoder
from facedis_core.nn.inference import TrainedNetwork
from facedis_core.nn.linear import LinearAutoEncoder
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.batches import Batch
from facedis_core.train.recipe import Recipe, load_recipe
from facedis_core.train.setup import build_auto_encoder, training_frame, with_pseudo_neutrals

Predictor = Callable[[np.ndarray], Prediction]

RECIPE = Recipe(
    network="linear", identity=5, expression=4, components=12, batch=7, swap=1.0, scale=50.0
)


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return synthetic.face_set()


def build(faces: FaceSet, recipe: Recipe, seed: int = 0) -> LinearAutoEncoder:
    network = build_auto_encoder(recipe, training_frame(faces, recipe), faces, seed)
    assert isinstance(network, LinearAutoEncoder)
    return network


def test_it_starts_on_the_principal_components_of_the_training_faces(faces: FaceSet) -> None:
    network = build(faces, RECIPE)
    flat = faces.vertices[faces.rows(TRAIN)].reshape(28, -1).astype(np.float64)
    _, singular, directions = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    same = np.abs(network.basis.numpy() @ directions[:12].T)
    np.testing.assert_allclose(same, np.eye(12), atol=1e-3)
    deviation = singular[:12] / np.sqrt(28) / 50.0
    np.testing.assert_allclose(network.deviation.numpy(), deviation, rtol=1e-4)
    components = np.random.default_rng(0).normal(size=(3, 12))
    x = network.normalised_mean_face.flatten() + torch.tensor(
        (components * deviation) @ network.basis.double().numpy()
    )
    posterior = network.encode(x.float().view(3, -1, 3))
    for part, z in (("identity", posterior.identity), ("expression", posterior.expression)):
        head = getattr(network.encoder, f"{part}_mean")
        expected = torch.tensor(components).float() @ head.weight.T + head.bias
        torch.testing.assert_close(z.mean, expected, rtol=1e-3, atol=1e-3)
        assert (z.log_variance == getattr(network.encoder, f"{part}_log_variance")).all()


def test_it_rebuilds_what_its_first_latents_can_hold_from_the_start(faces: FaceSet) -> None:
    network = build(faces, replace(RECIPE, identity=8, expression=8))
    x = network.normalise(torch.tensor(faces.vertices[faces.rows(TRAIN)]))
    z = network.encode(x)
    rebuilt = network.normalised_mean_face + network.identity_offsets(z.identity.mean)
    rebuilt = rebuilt + network.expression_offsets(z.expression.mean, z.identity.mean)
    assert (rebuilt - x).square().mean() < 0.05 * (x - x.mean(dim=0)).square().mean()


def test_no_more_components_than_the_faces_span(faces: FaceSet) -> None:
    network = build(faces, replace(RECIPE, components=1000))
    flat = faces.vertices[faces.rows(TRAIN)].reshape(28, -1)
    rank = np.linalg.matrix_rank(flat - flat.mean(axis=0), rtol=1e-4)
    assert rank < 28
    assert network.config == LinearConfig(36, 5, 4, rank)
    assert len(network.basis) == len(network.deviation) == rank


def test_faces_that_are_all_alike_have_no_components(faces: FaceSet) -> None:
    alike = replace(faces, vertices=np.repeat(faces.vertices[:1], len(faces.vertices), axis=0))
    with raises("faces-alike"):
        build(alike, RECIPE)


def test_a_half_basis_is_that_of_its_file_from_the_start(faces: FaceSet) -> None:
    network = build(faces, replace(RECIPE, half_decoders=True))
    assert torch.equal(network.basis, network.basis.half().float())
    assert not torch.equal(network.basis, build(faces, RECIPE).basis)


def test_seeds_differ_in_the_first_weights_alone(faces: FaceSet) -> None:
    one, again, other = (build(faces, RECIPE, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert {name for name in one if not torch.equal(one[name], other[name])} == {
        "encoder.identity_mean.weight",
        "encoder.expression_mean.weight",
    }


def test_a_step_by_hand(faces: FaceSet) -> None:
    """Terms of a step, formed vertex by vertex where the code works in components."""
    recipe = replace(
        RECIPE,
        neutral_latent=0.0,
        discriminator=0.0,
        partner_latent=0.7,
        expression_norm=0.3,
        expression_power=0.5,
    )
    subject = trainer(faces, recipe, adversary=False)
    places, partners = np.arange(7), np.array([1, 2, 3, 0, 5, 6, 7])
    x, other = (subject.batches.faces.batch(p) for p in (places, partners))
    w = {name: value.double().numpy() for name, value in subject.network.state_dict().items()}

    def heads(face: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        offset = (face.double().numpy() - w["mean_face"]).ravel() / 50.0
        u = np.array([row @ offset for row in w["basis"]]) / w["deviation"]
        return tuple(
            w[f"encoder.{part}_mean.weight"] @ u + w[f"encoder.{part}_mean.bias"]
            for part in ("identity", "expression")
        )

    def decode(part: str, z: np.ndarray) -> np.ndarray:
        u = w[f"{part}_decoder.weight"] @ z + w[f"{part}_decoder.bias"]
        return sum(u * d * row for u, d, row in zip(u, w["deviation"], w["basis"], strict=True))

    torch.manual_seed(3)
    noise = [torch.randn(7, size).double().numpy() * np.exp(-3) for size in (5, 4, 5)]
    keys = ("reconstruction", "swap", "partner_latent", "expression_norm")
    sums = dict.fromkeys(keys, 0.0)
    for i in range(7):
        (own, shown), (theirs, _) = heads(x[i]), heads(other[i])
        truth = (x[i].double().numpy() - w["mean_face"]).ravel() / 50.0
        expression = decode("expression", shown + noise[1][i])
        for key, z in (("reconstruction", own + noise[0][i]), ("swap", theirs + noise[2][i])):
            sums[key] += ((decode("identity", z) + expression - truth) ** 2).mean() / 7
        norms = (own**2).sum() + (theirs**2).sum()
        sums["partner_latent"] += ((own - theirs) ** 2).sum() / norms / 7
        lengths = np.linalg.norm(expression.reshape(-1, 3), axis=1)
        sums["expression_norm"] += np.sqrt(lengths).mean() / 7
    torch.manual_seed(3)
    record = subject._train_step(Batch(x, other))
    for key, value in sums.items():
        assert record[key] == pytest.approx(value, rel=1e-3), key
    total = 5000 * (sums["reconstruction"] + sums["swap"]) + 0.3 * sums["expression_norm"]
    total += 0.7 * sums["partner_latent"]
    total += 3e-5 * (record["kl_identity"] + record["kl_expression"])
    assert record["total"] == pytest.approx(total, rel=1e-3)


def test_a_discriminator_may_take_part(faces: FaceSet) -> None:
    changes = ["pseudo_neutral=none", "epochs=1", "batch=7", "discriminator=0.1"]
    recipe = load_recipe("linear", neutrals=False, changes=changes)
    record = trainer(faces, recipe, adversary=True).run_epochs()
    assert record is not None
    assert {"swap", "partner_latent", "expression_norm", "discriminator", "fake_accuracy"} <= set(
        record
    )


def people(count: int = 40) -> FaceSet:
    """People whose expressions move a few vertices each, by an amount of the person's own.

    Ten of them are test people.
    """
    faces = synthetic.face_set(subjects=count, expressions=6, test=10, neutrals=True)
    rng = np.random.default_rng(5)
    neutral = faces.neutrals[faces.labels.subject]
    offsets = np.zeros((6, 36, 3))
    for offset in offsets[1:]:
        offset[rng.permutation(36)[:8]] = rng.normal(0, 4, (8, 3))
    gain = rng.uniform(0.5, 1.5, (count, 6))[faces.labels.subject, faces.labels.expression]
    vertices = neutral + gain[:, None, None] * offsets[faces.labels.expression]
    return replace(faces, vertices=vertices.astype(np.float32))


def trained(faces: FaceSet, *, neutrals: bool, changes: Sequence[str]) -> AdversarialTrainer:
    """Fewer steps than the recipe has, with batches and a learning rate for so few faces."""
    few = ["pseudo_neutral=none", "identity=6", "batch=10", "learning_rate=2e-2", "epochs=30"]
    recipe = load_recipe("linear", neutrals=neutrals, changes=[*few, *changes])
    subject = trainer(faces, recipe, neutrals=neutrals, adversary=False)
    while not subject.is_finished:
        subject.run_epochs()
    return subject


def predictor(network: AutoEncoder) -> Predictor:
    """Reconstructions, identity faces and latent means of a network."""
    trained = TrainedNetwork(network)

    @torch.no_grad()
    def predict(vertices: np.ndarray) -> Prediction:
        found = trained(torch.tensor(vertices))
        return Prediction(
            found.reconstruction.numpy(),
            found.identity.numpy(),
            found.posteriors.identity.mean.numpy(),
            found.posteriors.expression.mean.numpy(),
        )

    return predict


AT_REST = ("pose_degrees=0", "pose_mm=0")


@pytest.mark.slow
@pytest.mark.parametrize("neutrals", [False, True])
def test_identity_faces_of_unseen_people_are_near_their_neutrals(neutrals: bool) -> None:
    faces = people()
    subject = trained(faces, neutrals=neutrals, changes=["expression=6", *AT_REST])
    rows = faces.rows(TEST)
    ours = evaluate_face_set(subject.predict, faces, rows).metrics
    found = evaluate_baselines(fit_baselines(faces, 6, 6), faces, rows)
    linear = {key: evaluation.metrics for key, evaluation in found.items()}
    assert linear["mean_face"]["avd_neu"]["mean"] > 6
    ridge = linear["ridge_identity_mean"]
    assert ours["avd_neu"]["mean"] < (0.1 if neutrals else ridge["avd_neu"]["mean"])
    assert ours["e_dis"]["mean"] < 0.05
    assert ours["e_rec"]["mean"] < 0.15  # of 7 mm that people and expressions vary
    assert ours["rank1_cosine_accuracy"] > 0.95


def test_twelve_people_with_six_faces_are_enough_for_the_recipe_as_it_is() -> None:
    faces = people(22)
    recipe = load_recipe("linear", neutrals=False)
    estimated = with_pseudo_neutrals(faces, recipe)
    assert estimated is not None
    frame = training_frame(faces, recipe)
    network = build_auto_encoder(recipe, frame, estimated, 0, neutrals=True)
    rows = faces.rows(TEST)
    ours = evaluate_face_set(predictor(network), faces, rows).metrics
    linear = evaluate_baselines(fit_baselines(faces, 64, 64), faces, rows)
    ridge = linear["ridge_identity_mean"].metrics
    assert ours["e_rec"]["mean"] < 0.05  # of 8 mm that people and expressions vary
    for key in ("e_dis", "avd_neu"):
        assert ours[key]["mean"] < 0.5 * ridge[key]["mean"], key


@pytest.mark.slow
def test_a_turned_head_is_the_same_person_to_a_model_that_has_seen_some() -> None:
    faces = people()
    torch.manual_seed(7)
    poses = random_poses(torch.tensor(faces.vertices), PoseVariation(2.0, 1.0), 1.0).numpy()
    test = faces.rows(TEST)
    turned = replace(faces, vertices=faces.vertices.copy())
    turned.vertices[test] = poses[test]
    seen, unseen = (
        evaluate_face_set(
            trained(faces, neutrals=False, changes=["expression=12", *changes]).predict,
            turned,
            test,
        ).metrics
        for changes in ((), AT_REST)
    )
    assert 4 * seen["e_dis"]["mean"] < unseen["e_dis"]["mean"]
    assert 4 * seen["e_rec"]["mean"] < unseen["e_rec"]["mean"]
