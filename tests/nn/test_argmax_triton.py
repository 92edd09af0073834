"""The GPU's search against all products in memory; without a GPU in Triton's interpreter."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facedis_core.nn.max_pool import argmax
from facedis_core.nn.max_pool.batch_statistics import FoldedLayer

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
Search = Callable[[Tensor, Tensor], Tensor]
INTERPRETER = {} if CUDA else {"TRITON_INTERPRET": "1"}
# The interpreter multiplies the bits of bfloat16 as if they were integers.
BF16 = pytest.param(
    torch.bfloat16, marks=pytest.mark.skipif(not CUDA, reason="bfloat16 needs a CUDA device")
)

# Triton looks for the interpreter when it is imported, which an optimiser of PyTorch does too;
# so here, before any test runs.
with pytest.MonkeyPatch.context() as patch:
    for name, value in INTERPRETER.items():
        patch.setenv(name, value)
    pytest.importorskip("triton")
    from facedis_core.nn.max_pool import argmax_triton

# Faces, vertices, inputs, outputs: less than a block, blocks and spans with and without a rest.
SHAPES = [
    (1, 1, 6, 1),
    (2, 5, 128, 9),
    (3, 64, 16, 128),
    (2, 65, 100, 130),
    (2, 70, 256, 129),
    (2, 1024, 7, 20),
    (3, 1025, 6, 33),
    (1, 2500, 64, 3),
]


@pytest.fixture
def fused_argmax(monkeypatch: pytest.MonkeyPatch) -> Iterator[Search]:
    for name, value in INTERPRETER.items():
        monkeypatch.setenv(name, value)
    argmax._kernel.cache_clear()
    yield argmax_triton.fused_argmax
    argmax._kernel.cache_clear()


def slowly(features: Tensor, weight: Tensor) -> Tensor:
    return (features.double() @ weight.double().T).argmax(dim=1)


def whole(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Small whole numbers: their products are exact in every precision, and often equal."""
    return torch.randint(-2, 3, shape).to(DEVICE, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_first_of_the_largest_products(
    shape: tuple[int, int, int, int], dtype: torch.dtype, fused_argmax: Search
) -> None:
    faces, vertices, inputs, outputs = shape
    torch.manual_seed(0)
    features = whole(faces, vertices, inputs, dtype=dtype)
    weight = whole(outputs, inputs, dtype=dtype)
    found = fused_argmax(features, weight)
    assert found.dtype == torch.int64
    assert torch.equal(found, slowly(features, weight))


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_a_product_as_large_as_the_largest_within_the_precision(
    dtype: torch.dtype, fused_argmax: Search
) -> None:
    torch.manual_seed(1)
    features = torch.randn(2, 1500, 128).relu().to(DEVICE, dtype)
    weight = torch.randn(96, 128).to(DEVICE, dtype)
    found = fused_argmax(features, weight)
    products = features.double() @ weight.double().T
    size = features.double().norm(dim=2).amax() * weight.double().norm(dim=1)
    enough = products >= products.amax(dim=1, keepdim=True) - size * (2**-9 if CUDA else 1e-6)
    assert enough.gather(1, found[:, None]).all()
    assert enough.double().mean() < 0.01  # or any vertex would pass


def test_rows_and_columns_that_lie_apart(fused_argmax: Search) -> None:
    torch.manual_seed(2)
    features, weight = whole(20, 3, 90)[:, 1:].permute(1, 2, 0), whole(20, 40)[:, ::2].T
    assert not features.is_contiguous() and not weight.is_contiguous()
    assert torch.equal(fused_argmax(features, weight), slowly(features, weight))


@pytest.mark.parametrize("place", [0, 70, 1023, 1024, 1099])
def test_nan_wins_like_in_argmax(place: int, fused_argmax: Search) -> None:
    torch.manual_seed(3)
    features, weight = whole(2, 1100, 6), whole(33, 6)
    features[0, place] = torch.nan
    weight[7] = torch.nan
    assert torch.equal(fused_argmax(features, weight), slowly(features, weight))


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul")  # the interpreter's
@pytest.mark.parametrize("vertices", [1, 63, 1100])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_face_without_a_finite_number_still_has_winners(
    value: float, vertices: int, fused_argmax: Search
) -> None:
    features = torch.full((2, vertices, 6), value, device=DEVICE)
    for weight in (torch.ones(5, 6, device=DEVICE), torch.zeros(5, 6, device=DEVICE)):
        found = fused_argmax(features, weight)
        assert (found >= 0).all() and (found < vertices).all()


def faces_and_chain(dtype: torch.dtype = torch.float32) -> tuple[Tensor, list[FoldedLayer]]:
    torch.manual_seed(4)
    layers = [whole(8, 3), whole(19, 8)]
    chain = [FoldedLayer(weight.to(dtype), whole(len(weight)).to(dtype)) for weight in layers]
    return whole(3, 150, 3).to(dtype), chain


def test_the_layers_before_it(fused_argmax: Search) -> None:
    x, (first, last) = faces_and_chain()
    features = (x @ first.weight.T + first.bias).relu()
    expected = slowly(features, last.weight)
    assert torch.equal(argmax._by_triton(features, last.weight), expected)
    assert argmax._kernel(x.device, x.dtype, last.weight.shape) is fused_argmax
    products = features @ last.weight.T
    found = argmax.argmax_vertices(x, [first, last])  # on a CPU another of equal ones
    assert torch.equal(products.gather(1, found[:, None])[:, 0], products.amax(dim=1))


def test_double_precision_and_many_inputs_go_the_plain_way(fused_argmax: Search) -> None:
    x, (first, last) = faces_and_chain(torch.float64)
    features = (x @ first.weight.T + first.bias).relu()
    expected = slowly(features, last.weight)
    assert torch.equal(argmax._by_triton(features, last.weight), expected)
    assert argmax._kernel(x.device, torch.float64, last.weight.shape) is None
    assert argmax._kernel(x.device, torch.float32, torch.Size((9, 257))) is None


def run(program: str, **environment: str) -> str:
    """What a fresh Python without the interpreter says; it must succeed."""
    clean = {k: v for k, v in os.environ.items() if k not in INTERPRETER}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=clean | environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_a_triton_that_fails_is_named_once_and_done_without() -> None:
    """It cannot run its kernels on a CPU outside the interpreter."""
    said = run(
        "import torch\n"
        "from facedis_core.nn.max_pool import argmax\n"
        "x, weight = torch.randn(2, 30, 6), torch.randn(9, 6)\n"
        "for _ in range(2):\n"
        "    found = argmax._by_triton(x, weight)\n"
        "assert torch.equal(found, (x @ weight.T).argmax(dim=1))\n"
    )
    assert said.count("UserWarning: Triton does not work here") == 1


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from facedis_core.nn.max_pool import argmax_triton

cases = [(86, "fp32", 128), (86, "fp32", 256), (86, "bf16", 128), (90, "fp32", 128)]
for capability, name, inputs in [*cases, (90, "bf16", 128), (90, "bf16", 6)]:
    sizes, options = argmax_triton._settings(inputs, {"fp32": 4, "bf16": 2}[name])
    types = dict(features="*" + name, weight="*" + name, highest="*fp32", vertex="*i64")
    types |= dict(vertices="i32", outputs="i32") | dict.fromkeys(sizes, "constexpr")
    source = ASTSource(argmax_triton._kernel, types, sizes)
    kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert kernel.asm["cubin"]
    print(capability, kernel.metadata.shared)
"""


def test_it_compiles_and_fits_the_shared_memory(tmp_path: Path) -> None:
    """Needs no GPU; what the interpreter lets pass and the compiler does not shows here."""
    pytest.importorskip("triton", minversion="3.3")  # earlier ones are called otherwise
    lines = run(COMPILE, TRITON_CACHE_DIR=str(tmp_path)).splitlines()
    assert len(lines) == 6
    for line in lines:
        capability, shared = map(int, line.split())
        assert 0 < shared <= {86: 99, 90: 227}[capability] * 1024
