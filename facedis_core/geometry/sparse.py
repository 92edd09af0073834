"""Factorisation of sparse matrices."""

from typing import Any


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
