"""After Jiang et al.: its forward pass against a slow twin, its stages, losses and model files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mesh_twin import dense_convolution, largest_eigenvalue
from raising import raises
from synthetic import face_set
from trainers import four_faces, objective_of, trained_in_parts

from facedis_core.data.face_set import TEST, TRAIN
from facedis_core.evaluate.prediction import model_predictor
from facedis_core.geometry.deformation_representation import (
    DeformationRepresentation,
    edge_weights,
)
from facedis_core.model.model_file import load_model
from facedis_core.nn import JiangAutoEncoder
from facedis_core.train.recipe import load_recipe
from facedis_core.train.training import train

FACES = face_set(size=4)
SHORT = {"identity": 5, "expression": 4, "batch": 7, "steps": 8}


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


class SlowTwin:
    """The network in float64, dense, written from the paper.

    A deformation representation, of which another test tells, is taken as it is.
    """

    def __init__(self, model, training, neutrals):
        self.w = {name: array.astype(float) for name, array in model.weights.items()}
        self.reference = neutrals.mean(axis=0)
        self.to_features = lambda faces: faces - self.reference
        self.to_faces = lambda features: self.reference + features
        if model.config.deformation:
            variance = training.var(axis=0, dtype=float).sum(axis=1)
            steadiness = 1 / (variance + 1e-3 * variance.mean()) ** 2
            shape = DeformationRepresentation(
                self.reference, *edge_weights(self.reference, model.triangles), steadiness
            )
            self.to_features = lambda faces: shape.features(faces.reshape(-1, *faces.shape[-2:]))
            self.to_faces = lambda features: shape.faces(features[None])[0]
        features = self.to_features(training)
        low, high = features.min(axis=0), features.max(axis=0)
        half = (high - low) / 2
        half = np.maximum(half, 0.01 * np.sqrt((half**2).mean()))
        middle = (low + high) / 2
        # to -0.9 .. 0.9
        self.to_range = lambda f: (0.9 * (f - middle) / half).reshape(len(middle), -1)
        self.from_range = lambda y: half * y / 0.9 + middle
        self.shift = 0.9 * middle / half
        self.edges = {tuple(sorted(e)) for t in model.triangles for e in (t[:2], t[1:], t[::2])}
        self.largest = largest_eigenvalue(len(self.reference), self.edges)

    def dense(self, name, values):
        return self.w[f"{name}.weight"] @ values + self.w[f"{name}.bias"]

    def convolutions(self, name, x, count):
        for k in range(count):
            layer = f"{name}.convolutions.{k}"
            weight, bias = self.w[f"{layer}.weight"], self.w.get(f"{layer}.bias")
            x = dense_convolution(x, self.edges, weight, bias, self.largest)
            x = leaky(x) if k < count - 1 else x
        return x

    def latent(self, branch, face):
        """Mean and log-variance."""
        x = self.convolutions(f"{branch}_encoder", self.to_range(self.to_features(face)), 5)
        x = leaky(x) if branch == "identity" else np.tanh(x)
        hidden = leaky(self.dense(f"{branch}_encoder.hidden", x.ravel()))
        log_variance = self.dense(f"{branch}_encoder.log_variance", 1 / (1 + np.exp(-hidden)))
        return self.dense(f"{branch}_encoder.mean", hidden), log_variance

    def decoded(self, branch, z):
        hidden = leaky(self.dense(f"{branch}_decoder.hidden", z))
        return np.tanh(self.dense(f"{branch}_decoder.output", hidden)).reshape(
            len(self.reference), -1
        )

    def faces(self, z, e):
        """X_id and X in mm."""
        own, shown = self.decoded("identity", z), self.decoded("expression", e)
        change = np.tanh(self.convolutions("fusion", np.hstack([own, shown]), 5))
        both = own + shown + self.shift + change
        return self.to_faces(self.from_range(own)), self.to_faces(self.from_range(both))


@pytest.mark.slow
@pytest.mark.parametrize("deformation", [False, True])
def test_slow_twin_numpy_torch_and_resumed_bytes(tmp_path, deformation):
    changes = {**SHORT, "deformation": deformation}
    path = trained_in_parts(tmp_path, FACES, "jiang", changes, neutrals=True)
    model, faces = load_model(path), FACES.read(FACES.rows(TEST)[:3])
    predicted = model_predictor(model)(faces)
    shown = model.decode(model.encode_prepared(faces, ["a", "b", "c"]), "expression")
    training = np.unique(FACES.labels.subject[FACES.rows(TRAIN)])
    twin = SlowTwin(model, FACES.vertices[FACES.rows(TRAIN)], FACES.neutrals[training])
    assert model.weights["eigenvalue"] == pytest.approx(twin.largest, 1e-4)
    with torch.no_grad():
        in_torch = model.to_torch()(torch.tensor(faces))
    for row, face in enumerate(faces):
        (z, *variances), (e, also) = (twin.latent(k, face) for k in ("identity", "expression"))
        for found, variance in zip(in_torch.posteriors, (*variances, also), strict=True):
            np.testing.assert_allclose(found.log_variance[row], variance, atol=1e-4)
        np.testing.assert_allclose(predicted.identity_latent[row], z, atol=1e-4)
        np.testing.assert_allclose(predicted.expression_latent[row], e, atol=1e-4)
        neutral, full = twin.faces(z, e)
        np.testing.assert_allclose(predicted.identity[row], neutral, atol=1e-3)
        np.testing.assert_allclose(predicted.reconstruction[row], full, atol=1e-3)
        np.testing.assert_allclose(shown[row], model.mean_face + full - neutral, atol=2e-3)
    np.testing.assert_allclose(in_torch.identity, predicted.identity, atol=1e-3)
    np.testing.assert_allclose(in_torch.reconstruction, predicted.reconstruction, atol=1e-3)
    further = train(FACES, "jiang", changes={**changes, "steps": 1}, neutrals=True, init=path)
    np.testing.assert_array_equal(further.weights["half_range"], model.weights["half_range"])
    moved = further.weights["identity_decoder.output.weight"]
    assert 0 < np.abs(moved - model.weights["identity_decoder.output.weight"]).max() < 0.01


@pytest.fixture(scope="module")
def objective():
    return objective_of(FACES, "jiang", identity=5, expression=4)


def learning(objective, progress):
    """The turn of four faces at that progress; the parts of the network that learn from it."""
    network = objective.network
    batch = four_faces(FACES, network, progress, expression=(0, 1, 2, 3))
    torch.manual_seed(1)
    (turn,) = objective.turns(batch)
    network.zero_grad()
    turn.total.backward()
    parts = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    return turn, {part.split("_")[0] for part in parts}


def test_the_published_layers():
    """Of a branch 9-128-64-64-64-3 or -1, dense 300; of the fusion 18-256-128-128-64-9."""
    assert not JiangAutoEncoder.is_exportable  # to ONNX
    for deformation, channels in ((False, 3), (True, 9)):
        given = "true" if deformation else "false"
        recipe = load_recipe("jiang", neutrals=True, changes=[f"deformation={given}"])
        shapes = recipe.model_config(16).weight_shapes()

        def widths(name, biases, shapes=shapes):
            layers = [f"{name}.convolutions.{k}" for k in range(5)]
            assert f"{name}.convolutions.5.weight" not in shapes
            found = [shapes[f"{layer}.weight"] for layer in layers]
            assert {orders for orders, _, _ in found} == {3}
            of_vertices = [shapes.get(f"{layer}.bias") for layer in layers]
            assert of_vertices == [(16, out) if biases else None for _, _, out in found]
            return [found[0][1], *(out for _, _, out in found)]

        assert widths("identity_encoder", True) == [channels, 128, 64, 64, 64, 3]
        assert widths("expression_encoder", False) == [channels, 128, 64, 64, 64, 1]
        assert widths("fusion", True) == [2 * channels, 256, 128, 128, 64, channels]
        for branch, last, size in (("identity", 3, 50), ("expression", 1, 25)):
            layers = ("encoder.hidden", "encoder.mean", "encoder.log_variance")
            found = [shapes[f"{branch}_{layer}.weight"] for layer in layers]
            assert found == [(300, 16 * last), (size, 300), (size, 300)]
            assert shapes[f"{branch}_decoder.hidden.weight"] == (300, size)
            assert shapes[f"{branch}_decoder.output.weight"] == (16 * channels, 300)


def length(a, b):
    return (a - b).square().sum(dim=2).sqrt().mean()


def test_each_branch_and_the_fusion_are_trained_alone(objective):
    network, weights = objective.network, dict(objective.network.named_parameters())
    faces = torch.tensor(FACES.vertices[:4])
    mean = torch.tensor(FACES.neutrals[:7]).mean(dim=0)  # of the training people
    features = network.features(network.normalise(faces))
    torch.testing.assert_close(features * network.scale, faces - mean, atol=1e-3, rtol=0)

    def squares(part):
        names = [n for n in weights if n.startswith(part) and n.endswith("weight")]
        return sum(weights[n].square().sum() for n in names)

    turn, parts = learning(objective, 0.0)
    assert parts == {"identity"} and set(turn.terms) == {"neutral", "kl_identity", "decay"}
    torch.testing.assert_close(turn.terms["decay"], 1e-5 * squares("identity"))
    torch.manual_seed(1)
    mixed, truth = objective._interpolated(4)
    halves = [network.encode_identity(half) for half in (features, mixed)]
    drawn = network.decode_neutral(torch.cat([half.sample() for half in halves]))
    known = (torch.tensor(FACES.neutrals[:2]) - mean) / network.scale
    expected = 0.5 * length(drawn[[0, 3]], known) + length(drawn[4:], truth)
    torch.testing.assert_close(turn.terms["neutral"], expected)

    for progress, part in {0.24: "identity", 0.49: "expression", 0.74: "fusion"}.items():
        assert learning(objective, progress)[1] == {part}

    turn, parts = learning(objective, 0.25)
    assert parts == {"expression"}
    torch.manual_seed(1)
    latent = network.encode_expression(features)
    drawn = network.decode_expression(latent.sample())
    training = torch.tensor(FACES.vertices[:28]).unflatten(0, (7, 4))
    truth = (training.mean(dim=0) - mean) / network.scale
    variance = latent.log_variance
    divergence = (1 + variance - latent.mean**2 - variance.exp()).sum(dim=1).abs().mean()
    expected = length(drawn, truth) + 5e-6 * divergence
    torch.testing.assert_close(turn.total, expected)

    turn, parts = learning(objective, 0.5)
    assert parts == {"fusion"} and set(turn.terms) == {"reconstruction", "decay"}
    torch.manual_seed(1)
    neutrals = network.decode_neutral(network.encode_identity(features).sample())
    expressions = network.decode_expression(network.encode_expression(features).sample())
    full = network.fused(neutrals, expressions)
    torch.testing.assert_close(turn.terms["reconstruction"], length(full, features))

    turn, parts = learning(objective, 0.75)
    assert parts == {"identity", "expression", "fusion"}
    torch.manual_seed(1)
    own, shown = network.encode_identity(features), network.encode_expression(features)
    neutrals, expressions = (
        network.decode_neutral(own.sample()),
        network.decode_expression(shown.sample()),
    )
    nobody = network.decode_expression(network.encode_expression(neutrals).sample())
    nothing = network.decode_neutral(network.encode_identity(expressions).sample())
    zero = torch.zeros_like(features)
    expected = length(network.fused(neutrals, expressions), features)
    expected = expected + length(nobody, zero) + length(nothing, zero)
    torch.testing.assert_close(turn.terms["reconstruction"], expected)
    torch.testing.assert_close(turn.terms["neutral"], 0.5 * length(neutrals[[0, 3]], known))
    decay = 3e-5 * squares("identity") + 1e-6 * squares("expression") + 1e-5 * squares("fusion")
    torch.testing.assert_close(turn.terms["decay"], decay)


def test_errors_of_a_deformation_representation_are_those_of_its_numbers():
    objective = objective_of(FACES, "jiang", identity=5, expression=4, deformation=True)
    network = objective.network
    neutrals = network.features(network.normalise(torch.tensor(FACES.neutrals[:7])))
    assert neutrals.shape == (7, FACES.vertices.shape[1], 9)
    mean = torch.tensor(FACES.neutrals[:7]).mean(dim=0, keepdim=True)
    assert network.features(network.normalise(mean)).abs().max() < 1e-5
    turn, _ = learning(objective, 0.75)
    torch.manual_seed(1)
    features = network.features(network.normalise(torch.tensor(FACES.vertices[:4])))
    drawn = network.decode_neutral(network.encode_identity(features).sample())
    shown = network.decode_expression(network.encode_expression(features).sample())
    nobody = network.decode_expression(network.encode_expression(drawn).sample())
    nothing = network.decode_neutral(network.encode_identity(shown).sample())
    error = (network.fused(drawn, shown) - features).abs().mean()
    expected = error + nobody.abs().mean() + nothing.abs().mean()
    torch.testing.assert_close(turn.terms["reconstruction"], expected)
    own = (drawn[[0, 3]] - neutrals[:2]).abs().mean() / 1.8  # the factor is of branches alone
    torch.testing.assert_close(turn.terms["neutral"], 0.5 * own)


def test_interpolated_people_lie_between_people(objective):
    torch.manual_seed(0)
    mixed, neutrals = objective._interpolated(50)
    low, high = objective.people.amin(dim=0), objective.people.amax(dim=0)
    assert ((neutrals >= low - 1e-6) & (neutrals <= high + 1e-6)).all()
    # none of them is a person that there is
    assert (neutrals[:, None] - objective.people).abs().amax(dim=(2, 3)).min() > 1e-3
    distance = (mixed - neutrals)[:, None] - objective.expression_means
    assert (distance.abs().amax(dim=(2, 3)).amin(dim=1) < 1e-6).all()


def test_means_of_expressions_are_over_people():
    """Also where a person shows one several times, as in the frames of a sequence."""
    expression = np.array(FACES.labels.expression)
    expression[(np.asarray(FACES.labels.subject) == 0) & (expression > 1)] = 1
    objective = objective_of(
        replace(FACES, labels=replace(FACES.labels, expression=expression)),
        "jiang",
        identity=5,
        expression=4,
    )
    rows = FACES.rows(TRAIN)
    subject = np.asarray(FACES.labels.subject)[rows]
    faces = objective.network.normalise(torch.from_numpy(FACES.read(rows)))
    features = objective.network.features(faces).numpy()
    for kind, ours in zip(np.unique(expression[rows]), objective.expression_means, strict=True):
        people = [
            features[(subject == person) & (expression[rows] == kind)].mean(axis=0)
            for person in np.unique(subject[expression[rows] == kind])
        ]
        np.testing.assert_allclose(ours, np.mean(people, axis=0), atol=1e-6)


def test_it_needs_neutrals_and_expressions():
    with raises("option-conflict", "--neutrals"):
        train(FACES, "jiang", changes={**SHORT, "pseudo_neutral": "none"})
    labels = replace(
        FACES.labels, expressions=["any"], expression=np.zeros_like(FACES.labels.expression)
    )
    with raises("label-missing", "two expressions"):
        train(replace(FACES, labels=labels), "jiang", changes=SHORT, neutrals=True)
