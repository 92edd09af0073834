"""Sparse matrices: rows applied with NumPy alone, and factorisation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A sparse matrix (R, C) by rows, as scipy.sparse.csr_array has it.

    Attributes:
        starts: int32 (R + 1,), where the entries of each row begin.
        columns: int32 (n,).
        values: float32 (n,).
    """

    starts: NDArray[np.int32]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, matrix: Any) -> "SparseRows":
        """Those of a sparse matrix of SciPy."""
        rows = matrix.tocsr()
        rows.sum_duplicates()
        starts, columns = rows.indptr.astype(np.int32), rows.indices.astype(np.int32)
        return cls(starts, columns, rows.data.astype(np.float32))

    def apply(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """The product (R, 3) with points (C, 3)."""
        count = len(self.starts) - 1
        row = np.repeat(np.arange(count), np.diff(self.starts))
        weights = self.values.astype(np.float64)
        products = (np.bincount(row, weights * points[self.columns, k], count) for k in range(3))
        return np.stack([*products], axis=1)


def factorised(matrix: Any) -> Any:
    """SuperLU of a sparse matrix (n, n), symmetric and positive definite: no pivoting is needed.

    Raises ImportError where SciPy is not installed; callers say for what it is needed.
    """
    from scipy.sparse.linalg import splu

    return splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
