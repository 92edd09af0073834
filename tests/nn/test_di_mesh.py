"""DI-MeshEncoder: its forward pass against a slow twin, its losses and players."""

import numpy as np
import torch
from mesh_twin import SlowMeshes
from raising import raises
from synthetic import face_set
from trainers import four_faces, objective_of, trained_in_parts

from facedis_core.data.face_set import TEST, TRAIN
from facedis_core.evaluate.prediction import model_predictor
from facedis_core.model.model_file import load_model
from facedis_core.nn import FaceDecoder, LatentEncoder
from facedis_core.train.training import train

FACES = face_set(size=8)
SHORT = {"identity": 5, "expression": 4, "batch": 7, "steps": 8}


def test_slow_twin_numpy_torch_and_resumed_bytes(tmp_path):
    path = trained_in_parts(tmp_path, FACES, "di-mesh-encoder", SHORT, neutrals=True)
    model, faces = load_model(path), FACES.read(FACES.rows(TEST)[:3])
    predicted = model_predictor(model)(faces)
    shown = model.decode(model.encode_prepared(faces, ["a", "b", "c"]), "expression")
    with torch.no_grad():
        in_torch = model.to_torch()(torch.tensor(faces))
    twin = SlowMeshes(model, FACES.vertices[FACES.rows(TRAIN)])
    for row, face in enumerate(faces):
        z, log_variance = np.split(twin.encoded("identity_encoder", face), 2)
        e, _ = np.split(twin.encoded("expression_encoder", face), 2)
        found = in_torch.posteriors.identity.log_variance[row]
        np.testing.assert_allclose(found, log_variance, atol=1e-4)
        np.testing.assert_allclose(predicted.identity_latent[row], z, atol=1e-4)
        np.testing.assert_allclose(predicted.expression_latent[row], e, atol=1e-4)
        neutral = twin.decoded("identity_decoder", z)
        full = twin.decoded("decoder", np.concatenate([z, e]))
        np.testing.assert_allclose(predicted.identity[row], neutral, atol=1e-3)
        np.testing.assert_allclose(predicted.reconstruction[row], full, atol=1e-3)
        np.testing.assert_allclose(shown[row], model.mean_face + full - neutral, atol=2e-3)
    for half in (LatentEncoder, FaceDecoder):
        with raises("unsupported", "di-mesh-encoder to ONNX"):
            half(model.to_torch())
    np.testing.assert_allclose(in_torch.identity, predicted.identity, atol=1e-3)
    np.testing.assert_allclose(in_torch.reconstruction, predicted.reconstruction, atol=1e-3)


def test_the_losses_and_turns():
    def judged(pair):
        """The discriminator: two hidden layers of 512, leaky by 0.2."""
        w = dict(objective.discriminator.named_parameters())
        assert [len(w[f"{k}.bias"]) for k in (0, 2, 4)] == [512, 512, 1]
        for k in (0, 2, 4):
            pair = pair @ w[f"{k}.weight"].T + w[f"{k}.bias"]
            pair = torch.where(pair > 0, pair, 0.2 * pair) if k < 4 else pair
        return torch.sigmoid(pair)

    objective = objective_of(FACES, "di-mesh-encoder", identity=5, expression=4)
    network = objective.network
    batch = four_faces(FACES, network, 0.5)
    faces, neutrals = batch.faces, batch.neutrals.faces
    torch.manual_seed(1)
    adversary, alone, last = objective.turns(batch)
    assert [t.player for t in (adversary, alone)] == ["discriminator", "expression_decoder"]

    torch.manual_seed(1)
    own, shown = network.encode(faces)
    z, e = own.sample(), shown.sample()
    mixed = e[torch.randperm(4)]
    real = judged(torch.cat([z, mixed], dim=1))
    fake = judged(torch.cat([z, e], dim=1))
    expected = -(real.log().mean() + (1 - fake).log().mean()) / 2
    torch.testing.assert_close(adversary.total, expected)
    known_faces = faces[[0, 3]]
    offsets = (known_faces - neutrals) / network.deviation
    error = (objective.expression_decoder(e, network.meshes)[[0, 3]] - offsets).abs().mean()
    torch.testing.assert_close(alone.total, 0.5 * error)
    full = network.decoder(torch.cat([z, e], dim=1), network.meshes)
    neutral = network.identity_decoder(z, network.meshes)[[0, 3]]
    divergences = sum(
        0.5 * (mean**2 + variance.exp() - 1 - variance).sum(dim=1).mean()
        for mean, variance in (own, shown)
    )
    expected = (full - network.standardise(faces)).abs().mean() + 0.5 * error
    expected = expected + 0.5 * (neutral - network.standardise(neutrals)).abs().mean()
    expected = expected + 1e-4 * divergences - 1e-2 * fake.log().mean()
    torch.testing.assert_close(last.total, expected)
    for each in (adversary, alone):  # of latents that do not learn from it
        gradients = torch.autograd.grad(
            each.total, list(network.parameters()), allow_unused=True, retain_graph=True
        )
        assert not any(gradient is not None for gradient in gradients)
    # both encoders learn to deceive the discriminator, the identity encoder alone from neutrals
    encoders = [network.identity_encoder.dense.weight, network.expression_encoder.dense.weight]
    for name, taught in {"discriminator": [True, True], "neutral": [True, False]}.items():
        gradients = torch.autograd.grad(
            last.terms[name], encoders, allow_unused=True, retain_graph=True
        )
        assert [gradient is not None and gradient.any() for gradient in gradients] == taught
    without = list(objective.turns(batch._replace(neutrals=None)))
    assert [each.player for each in without] == ["discriminator", "auto_encoder"]
    assert torch.isfinite(without[-1].total)


def test_it_needs_neutrals():
    with raises("option-conflict", "--neutrals"):
        train(FACES, "di-mesh-encoder", changes={**SHORT, "pseudo_neutral": "none"})
