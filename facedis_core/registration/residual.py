"""Smooth residual: offsets along the normals that take a fitted face to the scan."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from facedis_core.geometry.surface import uniform_laplacian
from facedis_core.registration.pairing import Surface, pair
from facedis_core.registration.prior import RegistrationPrior

Points = NDArray[np.float64]

STIFFNESS: Final = 3.0  # weight of the squared Laplacian beside squared residuals
DAMPING: Final = 1e-3
WIDTH_MM: Final = 1.0  # of the robust weight
REACH_MM: Final = 4.0
SAME_SIDE: Final = 0.6
ROUNDS: Final = 3
LIPS_MM: Final = 5.0


def normal_residual(
    prior: RegistrationPrior, scan: Surface, placed: Points, stiffness: float = STIFFNESS
) -> Points:
    """Offsets (V,) mm along the vertex normals of a placed face (V, 3).

    They minimise sum w (h - r)^2 + stiffness |L h|^2: r are the distances to the scan along the
    normals, L is the uniform Laplacian, and w are robust weights, 0 where the scan has no
    counterpart, and at rims and touching lips, whose normals point aside.
    """
    laplacian = uniform_laplacian(prior.triangles, len(placed))
    matrix = coo_matrix((laplacian.value, (laplacian.row, laplacian.column)), (len(placed),) * 2)
    smooth = (stiffness * (matrix.T @ matrix)).tocsc()
    normals = prior.normals(placed)
    masked = prior.rim.copy()
    if len(prior.contacts):
        distance, _ = cKDTree(prior.mean[prior.contacts.ravel()]).query(prior.mean)
        masked |= distance < LIPS_MM
    height = np.zeros(len(placed))
    for _ in range(ROUNDS):
        moved = placed + height[:, None] * normals
        paired = pair(moved, prior.normals(moved), scan)
        gap, facing = paired.height, paired.facing
        good = paired.near(REACH_MM, 2.5 * scan.spacing, SAME_SIDE) & ~masked
        weight = good / (1 + (gap / WIDTH_MM) ** 2) ** 2
        target = height + gap / np.maximum(facing, SAME_SIDE)
        system = (smooth + diags(weight + DAMPING)).tocsc()
        height = splu(system).solve(weight * target)
    return height
