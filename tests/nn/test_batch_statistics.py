"""Moments and folded norms against torch's own, and against numbers that cancel."""

import pytest
import torch
from torch import nn

from facedis_core.nn.max_pool import batch_statistics
from facedis_core.nn.max_pool.batch_statistics import (
    FoldedLayer,
    apply_layers,
    batch_moments,
    block_moments,
    combine_moments,
    fold_batch_norm,
    hidden_layer,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def chain() -> list[FoldedLayer]:
    shapes = ((6, 3), (6,)), ((4, 6), (4,))
    return [
        FoldedLayer(*(torch.randn(s, dtype=torch.float64, requires_grad=True) for s in pair))
        for pair in shapes
    ]


def test_moments_of_blocks_are_those_of_all_rows() -> None:
    rows = torch.randn(50, 4, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1, 2.0]) + 3.0
    found = combine_moments(block_moments(part) for part in rows.split([7, 1, 30, 12]))
    assert found.size == 50
    torch.testing.assert_close(found.mean, rows.mean(dim=0))
    torch.testing.assert_close(found.covariance, torch.cov(rows.T, correction=0))


def test_a_small_spread_far_from_zero_survives_single_precision() -> None:
    spread = torch.randn(20_000, 3, dtype=torch.float64)
    rows = spread * 0.01 + torch.tensor([100.0, -30.0, 10.0])
    found = batch_moments(rows.float())
    expected = torch.cov(rows.float().double().T, correction=0)
    torch.testing.assert_close(found.covariance.double(), expected, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_values_and_gradients_through_a_chain(
    layers: int, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_statistics, "_ROWS", 8)
    steps = chain()[:layers]
    x = torch.randn(29, 3, dtype=torch.float64, requires_grad=True)
    tensors = [x, *(t for layer in steps for t in layer)]
    hidden = x
    for weight, bias in steps:
        hidden = torch.relu(hidden @ weight.T + bias)
    expected = [hidden.mean(dim=0), torch.cov(hidden.T, correction=0)]
    rows, found = x, batch_moments(x)
    for number, layer in enumerate(steps, start=1):
        kept, found = hidden_layer(rows, layer, keep=keep or number < layers)
        assert (kept is None) == (not keep and number == layers)
        rows = rows if kept is None else kept
    ours = [found.mean, found.covariance]
    if keep:  # what a layer after it would look at
        ours, expected = [*ours, rows[3:9]], [*expected, hidden[3:9]]
    factors = [torch.randn_like(value) for value in expected]
    results = []
    for values in (ours, expected):
        total = sum((value * factor).sum() for value, factor in zip(values, factors, strict=True))
        results.append(torch.autograd.grad(total, tensors))
        torch.testing.assert_close(values, expected)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("training", [True, False])
def test_a_folded_norm_is_the_norm_after_the_layer(training: bool) -> None:
    linear, norm, twin = (
        nn.Linear(4, 5).double(),
        nn.BatchNorm1d(5).double(),
        nn.BatchNorm1d(5).double(),
    )
    nn.init.normal_(norm.weight)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    twin.load_state_dict(norm.state_dict())
    x = torch.randn(30, 4, dtype=torch.float64)
    expected = twin.train(training)(linear(x))
    layer = fold_batch_norm(linear, norm, batch_moments(x) if training else None)
    torch.testing.assert_close(x @ layer.weight.T + layer.bias, expected)
    torch.testing.assert_close(apply_layers(x, [layer]), torch.relu(expected))
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(norm, name), getattr(twin, name))


def test_a_layer_without_a_norm_is_itself() -> None:
    linear = nn.Linear(2, 3)
    layer = fold_batch_norm(linear, None, None)
    assert layer.weight is linear.weight and layer.bias is linear.bias
