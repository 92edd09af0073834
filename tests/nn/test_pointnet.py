"""The networks against loops over vertices, and against what the paper says of them."""

import numpy as np
import pytest
import torch

from facedis_core.model.config import DiscriminatorConfig, PointNetConfig
from facedis_core.nn.autoencoder import InitialData
from facedis_core.nn.discriminator import Dropout, IdentityDiscriminator
from facedis_core.nn.max_pool.batch_statistics import BatchNorm
from facedis_core.nn.max_pool.layer import set_pooling
from facedis_core.nn.pointnet import PointNetAutoEncoder, PointNetEncoder


def auto_encoder(vertices: int = 20, **sizes) -> PointNetAutoEncoder:
    config = PointNetConfig(vertices, sizes.pop("identity", 4), sizes.pop("expression", 3), **sizes)
    return PointNetAutoEncoder(config, torch.zeros(vertices, 3), torch.zeros(3), 1.0)


def discriminator(*, batch_norm: bool) -> IdentityDiscriminator:
    config = DiscriminatorConfig(20, batch_norm)
    return IdentityDiscriminator(config, torch.zeros(3), 1.0)


def test_parameter_count_is_that_of_the_authors_network() -> None:
    network = auto_encoder(4547, identity=64, expression=64)
    assert sum(p.numel() for p in network.parameters()) == 7_458_834


@pytest.mark.parametrize("implementation", ["fast", "reference"])
def test_encoder_is_a_loop_over_vertices_then_a_maximum(implementation) -> None:
    torch.manual_seed(0)
    network = auto_encoder(channels=(8, 16)).double().eval()
    set_pooling(network, implementation=implementation)
    x = torch.randn(2, 20, 3, dtype=torch.float64)
    first, last = network.encoder.layers
    features = []
    for face in x:
        best = torch.full((16,), -torch.inf, dtype=torch.float64)
        for vertex in face:
            h = torch.relu(first.norm(first.linear(vertex[None])))
            best = torch.maximum(best, torch.relu(last.norm(last.linear(h)))[0])
        features.append(best)
    expected = network.encoder.expression_log_variance(torch.stack(features))
    torch.testing.assert_close(network.encoder(x).expression.log_variance, expected)


def test_encoder_does_not_care_about_the_order_of_vertices() -> None:
    network = auto_encoder().eval()
    x = torch.randn(2, 20, 3)
    shuffled = x[:, torch.randperm(20)]
    torch.testing.assert_close(
        network.encoder(x).identity.mean, network.encoder(shuffled).identity.mean
    )


def test_points_are_all_the_encoder_looks_at() -> None:
    config = PointNetConfig(20, 4, 3, points=6)
    encoder = PointNetEncoder(config, torch.arange(0, 18, 3)).eval()
    x = torch.randn(1, 20, 3)
    before = encoder(x).identity.mean
    x[:, 1] += 100.0
    torch.testing.assert_close(encoder(x).identity.mean, before, rtol=0, atol=0)
    x[:, 3] += 100.0
    assert not torch.allclose(encoder(x).identity.mean, before)


def test_decoders_start_at_zero_when_asked_and_still_learn() -> None:
    frame = (torch.zeros(20, 3), torch.zeros(3), 1.0)
    data = InitialData(np.zeros((1, 20, 3)), np.arange(1), np.arange(1), zero_decoders=True)
    network = PointNetAutoEncoder.fresh(PointNetConfig(20, 4, 3), *frame, data)
    z = torch.randn(2, 4)
    offsets = network.identity_decoder(z)
    assert offsets.shape == (2, 20, 3)
    assert not offsets.any()
    (offsets - 1.0).square().sum().backward()
    assert network.identity_decoder.output.weight.grad.any()


def fresh(vertices: int = 20, offsets: bool = False, **data) -> PointNetAutoEncoder:
    faces = np.random.default_rng(0).normal(0, 2, (30, vertices, 3))
    mean, origin = torch.tensor(faces.mean(axis=0)), torch.tensor([1.0, 2.0, 3.0])
    given = InitialData(faces, np.arange(25), np.arange(25) // 5, **data)
    config = PointNetConfig(vertices, 4, 3, encoder_offsets=offsets)
    network = PointNetAutoEncoder.fresh(config, mean, origin, 50.0, given)
    network.reparametrise(given)
    return network


def test_offsets_are_mean_face_and_distance_from_it_in_units_of_spread() -> None:
    network = fresh(offsets=True).double().eval()
    faces = torch.tensor(np.random.default_rng(0).normal(0, 2, (25, 20, 3)))
    mean = faces.mean(dim=0)
    spread = (faces - mean).square().mean().sqrt().item() / 50
    assert network.encoder.spread.item() == pytest.approx(spread, rel=1e-6)
    own = network.normalised_mean_face
    seen = torch.stack([torch.cat([own, (x - own) / network.encoder.spread], 1) for x in faces[:2]])
    torch.testing.assert_close(
        network.encode(faces[:2]).identity.mean, network.encoder(seen).identity.mean
    )


def test_components_are_those_of_the_training_faces_and_leave_the_decoder_what_it_was() -> None:
    torch.manual_seed(0)
    network, plain = (fresh(zero_decoders=False, decoder_components=k) for k in (24, None))
    decoder, before = network.identity_decoder, plain.identity_decoder
    faces = np.random.default_rng(0).normal(0, 2, (30, 20, 3))[:25].reshape(25, -1)
    centred = faces - faces.mean(axis=0)
    _, values, rows = np.linalg.svd(centred, full_matrices=False)
    scaled = torch.tensor(values[:24, None] * rows[:24] / 5 / 50, dtype=torch.float32)
    torch.testing.assert_close(decoder.components.T @ decoder.components, scaled.T @ scaled)
    # the part of another decoder's output that lies in the components
    decoder.hidden.load_state_dict(before.hidden.state_dict())
    decoder.output, decoder.components = before.output, None
    decoder.learn_components(scaled)
    z = torch.randn(3, 4)
    inside = torch.tensor(rows[:24].T @ rows[:24], dtype=torch.float32)
    expected = before(z).flatten(1) @ inside
    torch.testing.assert_close(decoder(z).flatten(1), expected)
    weight, bias = decoder.output_layer()
    hidden = torch.relu(decoder.hidden(z))
    torch.testing.assert_close(hidden @ weight.T + bias, decoder(z).flatten(1))


def test_components_of_a_stored_decoder_are_found_again() -> None:
    network = fresh(decoder_components=10)
    for decoder in (network.identity_decoder, network.expression_decoder):
        torch.nn.init.normal_(decoder.output.weight)
        torch.nn.init.normal_(decoder.output.bias)
    stored = network.model_tensors()
    assert stored["identity_decoder.output.weight"].shape == (60, 256)
    again = fresh(decoder_components=None)
    again.identity_decoder.output.load_state_dict(
        {key: stored[f"identity_decoder.output.{key}"] for key in ("weight", "bias")}
    )
    again.identity_decoder.learn_components(network.identity_decoder.components)
    ours, theirs = again.identity_decoder.output, network.identity_decoder.output
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-4, atol=1e-4)


def test_discriminator_starts_from_the_identity_transform() -> None:
    network = discriminator(batch_norm=False)
    last = network.transform.head[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    pair = torch.randn(3, 20, 6)
    torch.testing.assert_close(network.transform(pair), torch.eye(6).expand(3, 6, 6))


def test_discriminator_answers_two_classes_for_a_pair() -> None:
    network = discriminator(batch_norm=True).eval()
    first, second = torch.randn(2, 3, 20, 3)
    logits = network(first, second)
    assert logits.shape == (3, 2)
    assert not torch.allclose(logits, network(second, first))


def test_dropout_comes_with_batch_norm_only() -> None:
    for batch_norm in (True, False):
        modules = [type(m) for m in discriminator(batch_norm=batch_norm).modules()]
        assert modules.count(Dropout) == int(batch_norm)
        assert (modules.count(BatchNorm) > 0) == batch_norm
