"""A Triton kernel: matrix product and argmax over the vertices, without storing the products.

A program computes some channels for a span of one face's vertices. It multiplies block after block
of the vertices by the channels' weights, which stay in shared memory, and keeps for every row of
the block the largest product so far and the block it came from. The rows of a channel are compared
at the end: before that nothing is exchanged between threads and nothing written.

Importing Triton takes a second, so this module is imported only for a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_SPAN = 1024  # vertices per program; small batches still fill a GPU
_DEEPEST = 256  # most inputs whose blocks fit the shared memory
_CAPABILITY = (8, 0)  # the first with TF32 and bf16 tensor cores


def supports(weight: Tensor) -> bool:
    """Whether `fused_argmax` works with such a weight (C_out, C_in) on its device."""
    precise = weight.dtype in (torch.float32, torch.bfloat16)
    # on a CPU only Triton's interpreter gets here; ROCm calls its GPUs cuda too
    able = not weight.is_cuda or (
        torch.version.cuda is not None
        and torch.cuda.get_device_capability(weight.device) >= _CAPABILITY
    )
    return precise and able and weight.shape[1] <= _DEEPEST


def fused_argmax(features: Tensor, weight: Tensor) -> Tensor:
    """(features @ weight.T).argmax(dim=1), to the precision of the products.

    Products of float32 are rounded to TF32, sums are float32: if the two largest products of a
    channel differ by less than about 1e-3 |feature| |weight|, either vertex may be returned. Of
    equal products it is the lowest vertex. NaN counts as infinite.

    Args:
        features: (B, V, C_in), float32 or bfloat16.
        weight: (C_out, C_in), of the same type; see `supports`.

    Returns:
        int64 (B, C_out).
    """
    faces, vertices, inputs = features.shape
    outputs, spans = len(weight), triton.cdiv(vertices, _SPAN)
    highest = features.new_empty(faces, spans, outputs, dtype=torch.float32)
    vertex = torch.empty_like(highest, dtype=torch.int64)
    sizes, options = _settings(inputs, weight.element_size())
    grid = (triton.cdiv(outputs, sizes["CHANNELS"]) * faces, spans)
    with torch.cuda.device_of(
        features
    ):  # Triton launches on the current device, not that of its arguments
        _kernel[grid](
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
    """Block sizes and launch options.

    Compiled by Triton 3.9, blocks need at most 96 of 99 KB shared memory on GPUs of compute
    capability 8.6, 8.9 and 12.0, and 128 of 227 KB on 9.0 and 10.0; no registers are spilled.
    """
    depth = max(16, triton.next_power_of_2(inputs))  # tensor cores need 16
    row = depth * element_bytes
    channels, rows, warps = (128, 64, 8) if row <= 512 else (64, 32, 4)
    return (
        {"INPUTS": inputs, "DEPTH": depth, "CHANNELS": channels, "ROWS": rows, "SPAN": _SPAN},
        # nothing is fused here, but some versions warn without it
        {"num_warps": warps, "num_stages": 3 if row <= 256 else 2, "enable_fp_fusion": True},
    )


# Specialising on V, as Triton does for multiples of 16, gains nothing.
@triton.jit(do_not_specialize=["vertices"])
def _kernel(
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
    """Largest products and their vertices, of some channels and one span of a face.

    Channels are the fastest program index, so that concurrent programs read the same features.
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
        at = tl.minimum(start + row, last)  # beyond the end the last vertex is repeated ...
        rows = tl.load(
            features + at[:, None] * INPUTS + depth[None, :],
            mask=depth[None, :] < INPUTS,
            other=0.0,
        )
        products = tl.dot(rows, columns, input_precision="tf32")
        # comparisons with NaN are false: it would never be replaced, or never be found
        products = tl.where(products == products, products, float("inf"))
        larger = products > best
        best = tl.where(larger, products, best)
        block = tl.where(larger, start, block)
    top = tl.max(best, axis=0)
    place = tl.min(tl.where(best == top[None, :], block + row[:, None], SPAN), axis=0)
    place = first + tl.minimum(place, last)  # ... and its copies count as that vertex
    to = (face * tl.num_programs(1) + tl.program_id(1)) * outputs + channel
    tl.store(highest + to, top, mask=channel < outputs)
    tl.store(vertex + to, place, mask=channel < outputs)
