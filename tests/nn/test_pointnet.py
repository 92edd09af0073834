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
    data = InitialData(np.zeros((1, 20, 3)), np.arange(1), zero_decoders=True)
    network = PointNetAutoEncoder.fresh(PointNetConfig(20, 4, 3), *frame, data)
    z = torch.randn(2, 4)
    offsets = network.identity_decoder(z)
    assert offsets.shape == (2, 20, 3)
    assert not offsets.any()
    (offsets - 1.0).square().sum().backward()
    assert network.identity_decoder.output.weight.grad.any()


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
