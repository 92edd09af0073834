"""Every loss against loops that follow its equation."""

import math
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch

from facedis_core.geometry.surface import uniform_laplacian
from facedis_core.nn import losses

B, V, D = 3, 4, 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_reconstruction_is_the_mean_over_batch_vertices_and_coordinates() -> None:
    a, b = torch.randn(2, B, V, 3)
    total = sum(
        (a[i, v, c] - b[i, v, c]).item() ** 2 for i in range(B) for v in range(V) for c in range(3)
    )
    assert losses.reconstruction_loss(a, b).item() == pytest.approx(total / (B * V * 3), rel=1e-5)


def test_kl_is_summed_over_dimensions_and_averaged_over_faces() -> None:
    mean, log_variance = torch.randn(2, B, D)
    total = 0.0
    for i in range(B):
        for d in range(D):
            m, lv = mean[i, d].item(), log_variance[i, d].item()
            total += -0.5 * (1 + lv - m * m - math.exp(lv))
    assert losses.kl_divergence(mean, log_variance).item() == pytest.approx(total / B, rel=1e-5)
    assert losses.kl_divergence(torch.zeros(B, D), torch.zeros(B, D)).item() == 0.0


def test_kl_is_that_of_the_distributions() -> None:
    mean, log_variance = torch.randn(2, B, D)
    ours = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(ours, prior).sum(1).mean()
    torch.testing.assert_close(losses.kl_divergence(mean, log_variance), expected)


def test_neutral_latent_is_the_mean_absolute_difference() -> None:
    a, b = torch.randn(2, B, D)
    expected = sum(abs((a[i, d] - b[i, d]).item()) for i in range(B) for d in range(D)) / (B * D)
    assert losses.neutral_latent_loss(a, b).item() == pytest.approx(expected, rel=1e-5)


def test_partner_latents_are_compared_relative_to_their_norms() -> None:
    a, b = torch.randn(2, B, D)
    total = 0.0
    for i in range(B):
        apart = sum((a[i, d] - b[i, d]).item() ** 2 for d in range(D))
        total += apart / sum(a[i, d].item() ** 2 + b[i, d].item() ** 2 for d in range(D))
    ours = losses.partner_latent_loss(a, b)
    assert ours.item() == pytest.approx(total / B, rel=1e-5)
    torch.testing.assert_close(losses.partner_latent_loss(1e-3 * a, 1e-3 * b), ours)
    nothing = torch.zeros(B, D, requires_grad=True)
    losses.partner_latent_loss(nothing, nothing.detach()).backward()
    assert nothing.grad is not None
    assert not nothing.grad.any()


@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
def test_expression_norm_is_a_power_of_each_vertex_distance(power: float) -> None:
    offsets = torch.randn(B, V, 3)
    total = sum(math.dist(offset, (0, 0, 0)) ** power for face in offsets for offset in face)
    ours = losses.expression_norm_loss(offsets, power)
    assert ours.item() == pytest.approx(total / (B * V), rel=1e-5)


def test_expression_norm_has_a_gradient_where_nothing_moves() -> None:
    offsets = torch.zeros(B, V, 3, requires_grad=True)
    losses.expression_norm_loss(offsets, 0.5).backward()
    assert offsets.grad is not None
    assert not offsets.grad.any()


def test_expression_norm_prefers_the_place_where_most_faces_are() -> None:
    places = torch.tensor([0.0, 0.0, 0.0, 3.0, 5.0])  # one coordinate of a vertex in five faces
    grid = torch.linspace(-1, 5, 601)
    for power, centre in ((2.0, 1.6), (1.0, 0.0), (0.5, 0.0)):
        offsets = torch.zeros(601, 5, 3)
        offsets[..., 0] = places - grid[:, None]
        costs = torch.stack([losses.expression_norm_loss(o[None], power) for o in offsets])
        assert grid[costs.argmin()].item() == pytest.approx(centre, abs=0.011)


def test_laplacian_against_a_dense_matrix_and_a_loop() -> None:
    triangles = np.array([[0, 1, 2], [2, 1, 3]], np.int32)
    neighbours = {0: [1, 2], 1: [0, 2, 3], 2: [0, 1, 3], 3: [1, 2]}
    faces = torch.randn(B, V, 3)
    total = 0.0
    for face in faces:
        for v, around in neighbours.items():
            difference = face[v] - torch.stack([face[n] for n in around]).mean(dim=0)
            total += difference.square().sum().item()
    row, column, value = uniform_laplacian(triangles, V)
    index = torch.tensor(np.stack([row, column]), dtype=torch.int64)
    laplacian = torch.sparse_coo_tensor(index, torch.tensor(value), (V, V), check_invariants=True)
    loss = losses.laplacian_loss(faces, laplacian)
    assert loss.item() == pytest.approx(total / V / B, rel=1e-5)
    dense = (laplacian.to_dense() @ faces).square().sum() / V / B
    torch.testing.assert_close(loss, dense)


def test_discriminator_loss_wants_real_pairs_same_and_fake_pairs_different() -> None:
    real, fake = torch.randn(2, B, 2)
    total, right = 0.0, {"real": 0, "fake": 0}
    for name, logits, label in (("real", real, 1), ("fake", fake, 0)):
        for row in logits:
            p = torch.softmax(row, dim=0)
            total -= math.log(p[label].item())
            right[name] += int(p.argmax().item() == label)
    result = losses.discriminator_loss(real, fake)
    assert result.loss.item() == pytest.approx(total / (2 * B), rel=1e-5)
    assert result.real_accuracy.item() == pytest.approx(right["real"] / B)
    assert result.fake_accuracy.item() == pytest.approx(right["fake"] / B)


def test_generator_wants_its_pairs_called_the_same_person() -> None:
    logits = torch.randn(B, 2)
    expected = -sum(math.log(torch.softmax(row, 0)[1].item()) for row in logits) / B
    assert losses.generator_loss(logits).item() == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_leaves_something_to_the_other_class() -> None:
    sure = torch.tensor([[-30.0, 30.0]]), torch.tensor([[30.0, -30.0]])
    assert losses.discriminator_loss(*sure).loss.item() == pytest.approx(0.0, abs=1e-6)
    smooth = losses.discriminator_loss(*sure, label_smoothing=0.1).loss.item()
    assert smooth == pytest.approx(0.05 * 60.0, rel=1e-4)


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
