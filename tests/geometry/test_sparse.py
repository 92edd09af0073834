import numpy as np
from scipy.sparse import random as random_matrix

from facedis_core.geometry.sparse import SparseRows


def test_rows_are_applied_as_scipy_does():
    rng = np.random.default_rng(0)
    matrix = random_matrix(40, 30, 0.1, rng=rng, dtype=np.float32).tolil()
    matrix[7] = 0  # a row without entries
    points = rng.normal(size=(30, 3))
    rows = SparseRows.of(matrix.tocsr())
    np.testing.assert_allclose(rows.apply(points), matrix @ points, atol=1e-6)
    assert (rows.apply(points)[7] == 0).all()
