"""Every loss against NumPy and the distributions of torch."""

from dataclasses import asdict, fields

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from facedis_core.nn import losses

B, V, D = 3, 4, 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_means_of_squared_and_absolute_differences() -> None:
    a, b = torch.randn(2, B, V, 3)
    found = losses.reconstruction_loss(a, b).item()
    assert found == pytest.approx(((a - b).numpy() ** 2).sum() / (B * V * 3), rel=1e-5)
    a, b = torch.randn(2, B, D)
    found = losses.neutral_latent_loss(a, b).item()
    assert found == pytest.approx(np.abs((a - b).numpy()).sum() / (B * D), rel=1e-5)


def test_kl_is_summed_over_dimensions_and_averaged_over_faces() -> None:
    mean, log_variance = torch.randn(2, B, D)
    ours = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(ours, prior).sum(1).mean()
    torch.testing.assert_close(losses.kl_divergence(mean, log_variance), expected)
    assert losses.kl_divergence(torch.zeros(B, D), torch.zeros(B, D)).item() == 0.0


def test_partner_latents_are_compared_relative_to_their_norms() -> None:
    a, b = torch.randn(2, B, D)
    x, y = a.numpy(), b.numpy()
    expected = np.mean(((x - y) ** 2).sum(1) / ((x**2).sum(1) + (y**2).sum(1)))
    ours = losses.partner_latent_loss(a, b)
    assert ours.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(losses.partner_latent_loss(1e-3 * a, 1e-3 * b), ours)
    nothing = torch.zeros(B, D, requires_grad=True)
    losses.partner_latent_loss(nothing, nothing.detach()).backward()
    assert nothing.grad is not None
    assert not nothing.grad.any()


@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
def test_expression_norm_is_a_power_of_each_vertex_distance(power: float) -> None:
    offsets = torch.randn(B, V, 3)
    expected = (np.linalg.norm(offsets.numpy(), axis=-1) ** power).mean()
    ours = losses.expression_norm_loss(offsets, power)
    assert ours.item() == pytest.approx(expected, rel=1e-5)
    still = torch.zeros(B, V, 3, requires_grad=True)
    losses.expression_norm_loss(still, power).backward()
    assert still.grad is not None
    assert not still.grad.any()


def test_expression_norm_prefers_the_place_where_most_faces_are() -> None:
    places = torch.tensor([0.0, 0.0, 0.0, 3.0, 5.0])  # one coordinate of a vertex in five faces
    grid = torch.linspace(-1, 5, 601)
    for power, centre in ((2.0, 1.6), (1.0, 0.0), (0.5, 0.0)):
        offsets = torch.zeros(601, 5, 3)
        offsets[..., 0] = places - grid[:, None]
        costs = torch.stack([losses.expression_norm_loss(o[None], power) for o in offsets])
        assert grid[costs.argmin()].item() == pytest.approx(centre, abs=0.011)


def test_laplacian_is_that_of_a_dense_matrix() -> None:
    triangles = np.array([[0, 1, 2], [2, 1, 3]], np.int32)
    dense = np.eye(V)
    for vertex, around in {0: [1, 2], 1: [0, 2, 3], 2: [0, 1, 3], 3: [1, 2]}.items():
        dense[vertex, around] = -1 / len(around)
    faces = torch.randn(B, V, 3)
    loss = losses.laplacian_loss(faces, losses.laplacian_matrix(triangles, V))
    expected = ((dense @ faces.numpy()) ** 2).sum() / V / B
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_discriminator_wants_real_pairs_same_and_fake_pairs_different(smoothing: float) -> None:
    real, fake = torch.randn(2, B, 2)
    expected, right = 0.0, []
    for logits, label in ((real, 1), (fake, 0)):
        log_p = log_softmax(logits.numpy(), axis=1)
        target = np.full(2, smoothing / 2)
        target[label] += 1 - smoothing
        expected -= (log_p @ target).sum() / (2 * B)
        right.append((log_p.argmax(axis=1) == label).mean())
    result = losses.discriminator_loss(real, fake, smoothing)
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)
    assert [result.real_accuracy.item(), result.fake_accuracy.item()] == pytest.approx(right)


def test_generator_wants_its_pairs_called_the_same_person() -> None:
    logits = torch.randn(B, 2)
    expected = -log_softmax(logits.numpy(), axis=1)[:, 1].mean()
    assert losses.generator_loss(logits).item() == pytest.approx(expected, rel=1e-5)


def test_the_sum_is_of_weight_times_term() -> None:
    weights = losses.LossWeights(**{f.name: n for n, f in enumerate(fields(losses.LossWeights), 1)})
    terms = {name: torch.tensor(1.0, requires_grad=True) for name in asdict(weights)}
    total = losses.weighted_sum(terms, weights)
    assert total.item() == sum(asdict(weights).values())
    total.backward()
    for name, term in terms.items():
        assert term.grad is not None
        assert term.grad.item() == getattr(weights, name)
    some = {"reconstruction": torch.tensor(3.0), "neutral": torch.tensor(2.0)}
    assert losses.weighted_sum(some, losses.LossWeights(10.0, neutral=5.0)).item() == 40.0
