"""The largest product of every channel and its vertex, on a GPU, with no product in memory.

A program takes some channels and a span of one face's vertices. It multiplies block after block
of the vertices with the channels' weights, which stay where they are, and keeps for every place
of the block the largest product so far and the block that it came from. Only at the end are the
places of a channel compared: in between nothing is exchanged and nothing written.

Needs Triton, so import this only where it will be used: it takes a second.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_SPAN = 1024  # vertices a program; small batches then still fill a GPU
_DEEPEST = 256  # inputs whose blocks fit the shared memory
_CAPABILITY = (8, 0)  # the first GPUs whose tensor cores take TF32 and bf16


def suits(weight: Tensor) -> bool:
    """Whether `largest` takes such a weight (C_out, C_in) on its device."""
    precise = weight.dtype in (torch.float32, torch.bfloat16)
    # on a CPU only Triton's interpreter gets here; ROCm calls its GPUs cuda too
    able = not weight.is_cuda or (
        torch.version.cuda is not None
        and torch.cuda.get_device_capability(weight.device) >= _CAPABILITY
    )
    return precise and able and weight.shape[1] <= _DEEPEST


def largest(features: Tensor, weight: Tensor) -> Tensor:
    """(features @ weight.T).argmax(dim=1), to the precision of the products.

    Products of float32 are those of TF32, sums are float32: where the two largest products of a
    channel are within some 1e-3 of |feature| |weight|, either may win. Products that are equal
    go to the lowest vertex. NaN counts as infinite.

    Args:
        features: (B, V, C_in), float32 or bfloat16.
        weight: (C_out, C_in), of the same type; see `suits`.

    Returns:
        int64 (B, C_out).
    """
    faces, vertices, inputs = features.shape
    outputs, spans = len(weight), triton.cdiv(vertices, _SPAN)
    highest = features.new_empty(faces, spans, outputs, dtype=torch.float32)
    vertex = torch.empty_like(highest, dtype=torch.int64)
    sizes, options = _settings(inputs, weight.element_size())
    grid = (triton.cdiv(outputs, sizes["CHANNELS"]) * faces, spans)
    with torch.cuda.device_of(features):  # Triton launches on the current device, not on that
        _largest[grid](
            features.contiguous(),
            weight.contiguous(),
            highest,
            vertex,
            vertices,
            outputs,
            **sizes,
            **options,
        )
    return vertex.gather(1, highest.argmax(dim=1, keepdim=True))[:, 0]


def _settings(inputs: int, element_bytes: int) -> tuple[dict[str, int], dict[str, int]]:
    """The kernel's sizes and how it is launched.

    As Triton 3.9 compiles it, blocks take at most 96 KB of shared memory where GPUs have 99
    (compute capability 8.6, 8.9, 12.0) and 128 of 227 KB on 9.0 and 10.0; no register spills.
    """
    depth = max(16, triton.next_power_of_2(inputs))  # 16: what the tensor cores need
    row = depth * element_bytes
    channels, rows, warps = (128, 64, 8) if row <= 512 else (64, 32, 4)
    return (
        {"INPUTS": inputs, "DEPTH": depth, "CHANNELS": channels, "ROWS": rows, "SPAN": _SPAN},
        # fusion: there is nothing to fuse here, but some versions warn if it is not said
        {"num_warps": warps, "num_stages": 3 if row <= 256 else 2, "enable_fp_fusion": True},
    )


# To compile anew for every V, or for one that 16 divides, gains nothing.
@triton.jit(do_not_specialize=["vertices"])
def _largest(
    features: tl.tensor,
    weight: tl.tensor,
    highest: tl.tensor,
    vertex: tl.tensor,
    vertices: tl.tensor,
    outputs: tl.tensor,
    INPUTS: tl.constexpr,
    DEPTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    SPAN: tl.constexpr,
) -> None:
    """Of some channels and one span of a face: the largest products and their vertices.

    Channels count fastest, so that programs of one time read the same features.
    """
    parts = tl.cdiv(outputs, CHANNELS)
    face = (tl.program_id(0) // parts).to(tl.int64)  # B V C_in may be more than 2^31
    channel = tl.program_id(0) % parts * CHANNELS + tl.arange(0, CHANNELS)
    first = tl.program_id(1) * SPAN
    last = tl.minimum(vertices - first, SPAN) - 1
    features += (face * vertices + first) * INPUTS
    depth = tl.arange(0, DEPTH)
    row = tl.arange(0, ROWS)
    columns = tl.load(
        weight + channel[None, :] * INPUTS + depth[:, None],
        mask=(channel[None, :] < outputs) & (depth[:, None] < INPUTS),
        other=0.0,
    )
    best = tl.full((ROWS, CHANNELS), float("-inf"), tl.float32)
    block = tl.zeros((ROWS, CHANNELS), tl.int32)
    for start in range(0, last + 1, ROWS):
        at = tl.minimum(start + row, last)  # rather than none the last vertex again ...
        rows = tl.load(
            features + at[:, None] * INPUTS + depth[None, :],
            mask=depth[None, :] < INPUTS,
            other=0.0,
        )
        products = tl.dot(rows, columns, input_precision="tf32")
        # a comparison with NaN is false: as it is it would never win, or never lose again
        products = tl.where(products == products, products, float("inf"))
        larger = products > best
        best = tl.where(larger, products, best)
        block = tl.where(larger, start, block)
    top = tl.max(best, axis=0)
    place = tl.min(tl.where(best == top[None, :], block + row[:, None], SPAN), axis=0)
    place = first + tl.minimum(place, last)  # ... which has that number, should its copy win
    to = (face * tl.num_programs(1) + tl.program_id(1)) * outputs + channel
    tl.store(highest + to, top, mask=channel < outputs)
    tl.store(vertex + to, place, mask=channel < outputs)
