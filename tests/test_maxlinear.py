"""The pooling layer against the plain one: linear, batch norm, ReLU, maximum."""

import pytest
import torch
from torch import nn

from facedis_core import maxlinear
from facedis_core.maxlinear import MaxLinear


class PlainMaxLinear(nn.Module):
    """The same layer the ordinary way, with every activation in memory."""

    def __init__(self, layer: MaxLinear) -> None:
        super().__init__()
        outputs, inputs = layer.linear.weight.shape
        self.linear = nn.Linear(inputs, outputs).double()
        self.norm = nn.BatchNorm1d(outputs).double() if layer.norm is not None else None
        self.load_state_dict(layer.state_dict())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x.reshape(-1, x.shape[2]))
        if self.norm is not None:
            y = self.norm(y)
        return torch.relu(y).view(len(x), x.shape[1], -1).amax(dim=1)


def layers(*, batch_norm: bool, seed: int = 0) -> tuple[MaxLinear, PlainMaxLinear]:
    torch.manual_seed(seed)
    layer = MaxLinear(5, 9, batch_norm=batch_norm).double()
    if layer.norm is not None:
        nn.init.normal_(layer.norm.weight)  # of both signs
        nn.init.normal_(layer.norm.bias)
        assert (layer.norm.weight < 0).any() and (layer.norm.weight > 0).any()
    return layer, PlainMaxLinear(layer)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_values_gradients_and_statistics_are_those_of_the_plain_layer(
    batch_norm: bool, training: bool
) -> None:
    ours, plain = layers(batch_norm=batch_norm)
    x = torch.randn(4, 30, 5, dtype=torch.float64) + 0.5
    ours.train(training)
    plain.train(training)
    results = []
    for layer in (ours, plain):
        inputs = x.clone().requires_grad_(True)
        y = layer(inputs)
        (y * torch.arange(1.0, y.numel() + 1, dtype=torch.float64).view_as(y)).sum().backward()
        gradients = {name: p.grad for name, p in layer.named_parameters()}
        statistics = {k: v for k, v in layer.state_dict().items() if "running" in k}
        results.append({"y": y, "x": inputs.grad, **gradients, **statistics})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-10, atol=1e-10, msg=name)


def test_gradient_against_finite_differences() -> None:
    layer, _ = layers(batch_norm=True, seed=3)
    x = torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,), eps=1e-6, atol=1e-6)


def test_blocks_of_faces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, _ = layers(batch_norm=True)
    layer.eval()
    x = torch.randn(5, 11, 5, dtype=torch.float64)
    whole = layer(x)
    monkeypatch.setattr(maxlinear, "_BLOCK", 1)
    torch.testing.assert_close(layer(x), whole, rtol=0, atol=0)
