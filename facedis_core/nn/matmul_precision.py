"""Rounding of float32 products: a GPU may round their factors to TF32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch


@contextmanager
def matmul_precision(precision: Literal["highest", "high"]) -> Iterator[None]:
    """In this block `high` allows TF32, `highest` does not; nothing changes on a CPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
