"""Neutralisation in latent space: its forward pass against a slow twin, its losses and players."""

import numpy as np
import torch
from mesh_twin import SlowMeshes
from raising import raises
from synthetic import face_set
from torch.nn.functional import cross_entropy
from trainers import four_faces, objective_of, trained_in_parts

from facedis_core.data.face_set import TEST, TRAIN
from facedis_core.evaluate.prediction import model_predictor
from facedis_core.model.model_file import load_model
from facedis_core.train.training import train

FACES = face_set(size=8)
SHORT = {"identity": 5, "batch": 7, "steps": 12}


def test_slow_twin_numpy_torch_and_resumed_bytes(tmp_path):
    path = trained_in_parts(tmp_path, FACES, "kacem", SHORT, neutrals=True)
    model, faces = load_model(path), FACES.read(FACES.rows(TEST)[:3])
    predicted = model_predictor(model)(faces)
    assert predicted.reconstruction is None and predicted.expression_latent is None
    twin = SlowMeshes(model, FACES.vertices[FACES.rows(TRAIN)])
    assert model.weights["generator.1.weight"].shape == (128, 128)
    for row, face in enumerate(faces):
        z = twin.encoded("encoder", face)
        hidden = np.maximum(twin.dense("generator.0", z), 0)
        hidden = np.maximum(twin.dense("generator.1", hidden), 0)
        z = z + twin.dense("generator.2", hidden)
        np.testing.assert_allclose(predicted.identity_latent[row], z, atol=1e-4)
        np.testing.assert_allclose(predicted.identity[row], twin.decoded("decoder", z), atol=1e-3)
    with torch.no_grad():
        in_torch = model.to_torch()(torch.tensor(faces))
    np.testing.assert_allclose(in_torch.identity, predicted.identity, atol=1e-3)


def test_the_losses_and_turns():
    def judged(z):
        """The discriminator: a hidden layer of 128, leaky by 0.2."""
        w = dict(objective.discriminator.named_parameters())
        hidden = z @ w["0.weight"].T + w["0.bias"]
        assert hidden.shape[1] == 128
        return torch.sigmoid(
            torch.where(hidden > 0, hidden, 0.2 * hidden) @ w["2.weight"].T + w["2.bias"]
        )

    objective = objective_of(FACES, "kacem", identity=5)
    network = objective.network
    assert objective.classifier.out_features == 7  # training people
    batch = four_faces(FACES, network, 0.25)
    faces, neutrals, person = batch.faces, batch.neutrals.faces, batch.person
    (alone,) = objective.turns(batch._replace(progress=0.24))
    own = network.latent(faces)
    truth = network.standardise(faces)
    rec = (network.decoder(own, network.meshes) - truth).abs().mean()
    torch.testing.assert_close(alone.total, rec)

    adversary, classifier, last = objective.turns(batch)
    assert [each.player for each in (adversary, classifier)] == ["discriminator", "classifier"]
    z, real = network.neutralised(own), network.latent(neutrals)
    fake, true = judged(z), judged(real)
    expected = (-0.5 * true.log().mean() - (1 - fake).log().mean()) / 2
    torch.testing.assert_close(adversary.total, expected)
    person_loss = cross_entropy(objective.classifier(z), person)
    torch.testing.assert_close(classifier.total, person_loss)
    neutral = (network.decoder(z, network.meshes)[[0, 3]] - network.standardise(neutrals)).abs()
    latent = (z[[0, 3]] - real).abs().mean()
    expected = rec + 0.5 * neutral.mean() + 0.5 * latent
    expected = expected - 0.1 * fake.log().mean() + 0.1 * person_loss
    torch.testing.assert_close(last.total, expected)
    # encoder and generator learn from every term
    taught = [network.encoder.dense.weight, network.generator[2].weight]
    for name in ("neutral", "neutral_latent", "discriminator", "person"):
        gradients = torch.autograd.grad(last.terms[name], taught, retain_graph=True)
        assert all(gradient.any() for gradient in gradients), name
    for each in (adversary, classifier):
        gradients = torch.autograd.grad(
            each.total, list(network.parameters()), allow_unused=True, retain_graph=True
        )
        assert not any(gradient is not None for gradient in gradients)
    without = list(objective.turns(batch._replace(neutrals=None)))
    assert [each.player for each in without] == ["classifier", "auto_encoder"]
    assert torch.isfinite(without[-1].total) and not without[-1].terms["neutral"].detach()


def test_it_needs_neutrals():
    with raises("option-conflict", "--neutrals"):
        train(FACES, "kacem", changes={**SHORT, "pseudo_neutral": "none"})
