"""Vertices chosen with rounded products: as good as the best within the rounding."""

import sys

import pytest
import torch

from facedis_core.nn.max_pool import argmax
from facedis_core.nn.max_pool.argmax import argmax_vertices
from facedis_core.nn.max_pool.batch_statistics import FoldedLayer, apply_layers
from facedis_core.nn.max_pool.layer import MaxPoolLinear, pool, pool_reference, set_pooling
from facedis_core.nn.pointnet import pointnet

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def chain(offset: float, device: str) -> list[FoldedLayer]:
    """Two layers; `offset` is common to all features of the second one."""
    torch.manual_seed(0)
    first = FoldedLayer(torch.randn(32, 3), torch.randn(32) + offset)
    return [
        FoldedLayer(*(tensor.to(device) for tensor in layer))
        for layer in (first, FoldedLayer(torch.randn(300, 32), torch.randn(300)))
    ]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("vertices", [50, 531])
def test_bf16_loses_no_more_than_its_rounding(vertices: int, offset: float, device: str) -> None:
    layers = chain(offset, device)
    x = torch.randn(3, vertices, 3, device=device)
    features = apply_layers(x.reshape(-1, 3), layers[:1]).view(3, vertices, -1).double()
    products = features @ layers[1].weight.double().T
    spread = (features - features.mean(dim=1, keepdim=True)).norm(dim=2).amax()
    best = products.amax(dim=1)
    lost = {}
    for precision in ("fp32", "bf16"):
        found = argmax_vertices(x, layers, precision, tf32=precision == "bf16")
        lost[precision] = (best - products.gather(1, found[:, None])[:, 0]).amax()
    size = spread * layers[1].weight.norm(dim=1).amax()
    assert lost["fp32"] < 2e-5 * (size + 40 * offset)
    assert lost["bf16"] < 2**-6 * size
    assert lost["bf16"] > lost["fp32"] or lost["bf16"] == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_groups_and_blocks_change_nothing_but_ties(
    monkeypatch: pytest.MonkeyPatch, precision: argmax.Precision
) -> None:
    layers = chain(0.0, "cpu")
    x = torch.randn(5, 131, 3)
    products = apply_layers(x.reshape(-1, 3), layers[:1]).view(5, 131, -1) @ layers[1].weight.T
    for few, at_once in ((1000, 1), (0, 1), (0, 200)):
        monkeypatch.setattr(argmax, "_FEW", few)
        monkeypatch.setattr(argmax, "_PRODUCTS", at_once)
        found = products.gather(1, argmax_vertices(x, layers, precision)[:, None])[:, 0]
        worse = products.amax(dim=1) - found
        if precision == "fp32":
            assert worse.max() < 1e-4
        else:
            assert (worse < 0.02 * products.std()).float().mean() > 0.9


def test_values_and_gradients_are_exact_at_the_chosen_vertices() -> None:
    """In double precision, against the plain layers at the same vertices."""
    layers = pointnet((3, 6, 9), batch_norm=False).double()
    set_pooling(layers, precision="bf16")
    assert isinstance(layers[1], MaxPoolLinear) and layers[1].precision == "bf16"
    x = torch.randn(2, 200, 3, dtype=torch.float64)
    found = pool(layers, x)
    folded = [FoldedLayer(layer.linear.weight, layer.linear.bias) for layer in layers]
    chosen = argmax_vertices(x, folded, "bf16")
    plain = (x @ folded[0].weight.T + folded[0].bias).relu() @ folded[1].weight.T + folded[1].bias
    expected = plain.gather(1, chosen[:, None])[:, 0].relu()
    torch.testing.assert_close(found, expected)
    ours, theirs = (
        torch.autograd.grad(values.square().sum(), [*layers.parameters()], retain_graph=True)
        for values in (found, expected)
    )
    torch.testing.assert_close(ours, theirs)


def test_what_is_measured_is_chosen_exactly() -> None:
    torch.manual_seed(0)
    layers = pointnet((3, 32, 300), batch_norm=False)
    x = torch.randn(3, 600, 3)
    exact = pool(layers, x).detach()
    set_pooling(layers, precision="bf16")
    assert not torch.equal(pool(layers, x).detach(), exact)
    with torch.no_grad():
        assert torch.equal(pool(layers, x), exact)


@pytest.mark.parametrize("device", DEVICES)
def test_without_gradients_values_are_those_of_the_plain_layers(device: str) -> None:
    torch.manual_seed(0)
    layers = pointnet((3, 32, 300), batch_norm=False).to(device)
    x = torch.randn(3, 600, 3, device=device)
    with torch.no_grad():
        torch.testing.assert_close(pool(layers, x), pool_reference(layers, x), rtol=1e-5, atol=1e-5)


def test_a_cpu_needs_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argmax, "_kernel", pytest.fail)
    MaxPoolLinear(6, 9, batch_norm=True)(torch.randn(2, 300, 6))


def test_without_triton_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "facedis_core.nn.max_pool.argmax_triton", raising=False)
    monkeypatch.delattr("facedis_core.nn.max_pool.argmax_triton", raising=False)
    argmax._kernel.cache_clear()
    features, weight = torch.randn(3, 150, 8), torch.randn(19, 8)
    expected = (features @ weight.T).argmax(dim=1)
    assert torch.equal(argmax._by_triton(features, weight), expected)
    argmax._kernel.cache_clear()
