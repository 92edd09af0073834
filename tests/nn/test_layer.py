"""The fast pooling of layers against `pool_reference`, which holds every activation."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from facedis_core.nn.max_pool import argmax, batch_statistics
from facedis_core.nn.max_pool import layer as max_pool_layer
from facedis_core.nn.max_pool.layer import pool, set_pooling
from facedis_core.nn.pointnet import pointnet

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
# Vertices, and the sizes that choose how a face is searched: at once, or in groups and blocks
# that fit its vertices or leave a rest.
WAYS = {
    "few vertices": (30, {}),
    "one block": (30, {"_FEW": 0, "_GROUP": 3, "_ROWS": 30}),
    "many blocks": (31, {"_FEW": 0, "_GROUP": 4, "_ROWS": 7, "_PRODUCTS": 60, "_CHANNELS": 2}),
    "a group larger than a face": (5, {"_FEW": 0, "_ROWS": 3}),
    "several threads": (31, {"_FEW": 0, "_ROWS": 7, "_FACES": 1, "threads": 3}),
    "threads with several faces": (31, {"_FEW": 0, "_ROWS": 40, "_FACES": 3, "threads": 2}),
    "more threads than faces": (31, {"_FEW": 0, "_ROWS": 7, "threads": 5}),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def vertices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """V, with the sizes of blocks and the number of threads set."""
    count, sizes = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(sizes.get("threads", 1))
    for name, value in sizes.items():
        for module in (batch_statistics, argmax, max_pool_layer):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    yield count
    torch.set_num_threads(before)


class Pooled(nn.Module):
    def __init__(self, channels: tuple[int, ...], *, batch_norm: bool) -> None:
        super().__init__()
        self.layers = pointnet(channels, batch_norm=batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        return pool(self.layers, x)


def reference(network: Pooled) -> Pooled:
    """A copy that pools the plain way."""
    copy = deepcopy(network)
    set_pooling(copy, implementation="reference")
    return copy


def both(
    channels: tuple[int, ...], *, batch_norm: bool, device: str = "cpu"
) -> tuple[Pooled, Pooled]:
    """Fast and reference with the same weights in double precision; gains of both signs."""
    torch.manual_seed(0)
    fast = Pooled(channels, batch_norm=batch_norm).double()
    for module in fast.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            assert (module.weight < 0).any() and (module.weight > 0).any()
    fast.to(device)
    return fast, reference(fast)


def outcome(network: nn.Module, x: Tensor, *, inputs: bool = True) -> dict[str, Tensor | None]:
    """Values, gradients and running statistics after one pass; everything counts differently."""
    x = x.clone().requires_grad_(inputs)
    y = network(x)
    y.backward(torch.linspace(-1, 2, y.numel(), dtype=y.dtype, device=y.device).view_as(y))
    gradients = {f"d {name}": p.grad for name, p in network.named_parameters()}
    statistics = {k: v for k, v in network.state_dict().items() if "running" in k}
    return {"y": y.detach(), "d x": x.grad, **gradients, **statistics}


def assert_same(fast: dict[str, Tensor | None], plain: dict[str, Tensor | None]) -> None:
    assert fast.keys() == plain.keys()
    for name, value in fast.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_the_reference_is_made_of_layers_of_torch(training: bool) -> None:
    _, ours = both((3, 7, 6, 9), batch_norm=True)
    layers = [(layer.linear, nn.BatchNorm1d(len(layer.norm.bias))) for layer in ours.layers]
    for (_, norm), layer in zip(layers, ours.layers, strict=True):
        norm.double().train(training).load_state_dict(layer.norm.state_dict())
    x = torch.randn(4, 30, 3, dtype=torch.float64)
    rows = x.flatten(0, 1)
    for linear, norm in layers:
        rows = torch.relu(norm(linear(rows)))
    expected = rows.view(4, 30, 9).amax(dim=1)
    torch.testing.assert_close(ours.train(training)(x), expected, rtol=1e-9, atol=1e-10)
    for (_, norm), layer in zip(layers, ours.layers, strict=True):
        torch.testing.assert_close(layer.norm.running_var, norm.running_var)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("channels", "batch_norm", "training"),
    [
        ((3, 7, 6, 9), True, True),
        ((3, 7, 6, 9), True, False),
        ((3, 7, 6, 9), False, True),
        ((5, 9), True, True),
    ],
    ids=str,
)
def test_values_gradients_and_statistics_are_those_of_the_plain_layers(
    channels: tuple[int, ...], batch_norm: bool, training: bool, device: str, vertices: int
) -> None:
    networks = both(channels, batch_norm=batch_norm, device=device)
    x = torch.randn(4, vertices, channels[0], dtype=torch.float64, device=device) + 0.5
    assert_same(*(outcome(network.train(training), x) for network in networks))


@pytest.mark.parametrize("frozen", [False, True])
def test_data_without_a_gradient_and_weights_without_one(frozen: bool) -> None:
    x = torch.randn(2, 30, 3, dtype=torch.float64)
    found = []
    for network in both((3, 6, 9), batch_norm=True):
        network.train(not frozen).requires_grad_(not frozen)
        found.append(outcome(network, x, inputs=frozen))
    assert_same(*found)
    assert (found[0]["d x"] is None) != frozen
    assert (found[0]["d layers.0.linear.weight"] is None) == frozen


def test_without_momentum_the_batch_counts_but_leaves_no_trace() -> None:
    x = torch.randn(2, 30, 3, dtype=torch.float64)
    found = []
    for network in both((3, 6, 9), batch_norm=True):
        before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = 0.0
        found.append(outcome(network.train(), x))
        assert all(torch.equal(network.state_dict()[k], v) for k, v in before.items())
    assert_same(*found)


def test_threads_change_not_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_statistics, "_ROWS", 100)
    before = torch.get_num_threads()
    x = torch.randn(9, 150, 3, generator=torch.manual_seed(0))
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        found.append(outcome(Pooled((3, 8, 8, 64), batch_norm=True), x))
    torch.set_num_threads(before)
    for other in found[1:]:
        for name, value in other.items():
            torch.testing.assert_close(value, found[0][name], rtol=0, atol=0, msg=name)


def test_the_widest_layer_in_single_precision_on_a_face_sized_batch() -> None:
    """Blocks, groups and float32 as in a training: winners may only differ where products tie."""
    torch.manual_seed(0)
    fast = Pooled((3, 64, 128, 1024), batch_norm=True)
    plain = reference(fast).double()
    x = torch.randn(2, 1547, 3)
    found, expected = outcome(fast, x), outcome(plain, x.double())
    for name, value in found.items():
        assert value is not None and expected[name] is not None
        error = (value - expected[name]).norm() / expected[name].norm().clamp_min(1e-3)
        assert error < 1e-3, name


def test_values_that_are_not_finite_stay_so(vertices: int) -> None:
    network, _ = both((3, 6, 9), batch_norm=False)
    x = torch.randn(2, vertices, 3, dtype=torch.float64)
    x[0] = torch.nan
    y = network(x)
    assert y[0].isnan().all()
    assert y[1].isfinite().all()
