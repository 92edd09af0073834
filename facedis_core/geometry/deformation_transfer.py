"""Deformation transfer: displacements of one surface carried to another of the same triangles.

Sumner and Popovic 2004, in the gradient form of Botsch et al. 2006: the surface that is moved gets
the displacement whose gradients are, in the sense of least squares, those of the source.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import missing_extra
from facedis_core.geometry.sparse import factorised

Points = NDArray[Any]


def displacement_gradients(
    source: Points, triangles: NDArray[np.integer[Any]], displacements: Points
) -> NDArray[np.float32]:
    """Gradients S - I of displacements, per triangle.

    S = frame(x + d) frame(x)^-1 with frame = (two edges, normal / sqrt of its length). They are not
    linear in d, but gradients of several displacements may be added up with weights.

    Args:
        source: (V, 3).
        triangles: (F, 3), none of them degenerate.
        displacements: (E, V, 3).

    Returns:
        (E, F, 3, 3), gradients[e, f, i, j] = change of coordinate i along coordinate j.
    """
    points = np.asarray(source, np.float64)
    inverse = np.linalg.inv(_frames(points, triangles))
    gradients = np.empty((len(displacements), len(triangles), 3, 3), np.float32)
    for gradient, displacement in zip(gradients, displacements, strict=True):
        gradient[...] = _frames(points + displacement, triangles) @ inverse - np.eye(3)
    return gradients


def _frames(points: Points, triangles: NDArray[np.integer[Any]]) -> Points:
    """Two edges and the scaled normal of each triangle as columns of (F, 3, 3)."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.stack([b - a, c - a, normals / np.sqrt(lengths)], axis=2)


@dataclass(frozen=True, eq=False)
class DeformationTransfer:
    """Carries displacements to surfaces of one topology.

    The displacement u minimises the sum over triangles of area |grad u - J|^2, with u = 0 at the
    fixed vertices and J = (S - I)(I - n n^T), n the normal: the Poisson equation of the cotangent
    Laplacian. Its right side is the sum of area (S - I) grad(hat function), since those gradients
    lie in the triangle.

    Attributes:
        triangles: (F, 3).
        fixed: (V,) bool; every connected part needs at least one fixed vertex.
    """

    triangles: NDArray[np.integer[Any]]
    fixed: NDArray[np.bool_]

    def displacements(self, surface: Points, gradients: Points) -> NDArray[np.float32]:
        """Displacements (n, V, 3) of `surface` (V, 3) from gradients (n, F, 3, 3).

        Raises:
            UsageError: SciPy is not installed.
        """
        try:
            from scipy.sparse import csr_array
        except ImportError:
            raise missing_extra("carrying expressions from face to face", "prep") from None
        hats, areas = _hat_gradients(np.asarray(surface, np.float64), self.triangles)
        count, many = int((~self.fixed).sum()), len(self.triangles)
        unknown = np.where(self.fixed, -1, np.cumsum(~self.fixed) - 1)[self.triangles]  # (F, 3)

        def matrix(values: Points, row: Points, column: Points, columns: int) -> Any:
            kept = (row >= 0) & (column >= 0)
            entries = values.reshape(row.shape)[kept], (row[kept], column[kept])
            return csr_array(entries, shape=(count, columns))

        row = np.repeat(unknown, 3, axis=1)
        stiffness = np.einsum("fai,fbi->fab", hats, hats) * areas[:, None, None]
        laplacian = matrix(stiffness, row, np.tile(unknown, (1, 3)), count)
        gradient_of = np.tile(np.arange(3 * many).reshape(many, 3), (1, 3))
        divergence = matrix(hats * areas[:, None, None], row, gradient_of, 3 * many)
        wanted = gradients.transpose(1, 3, 0, 2).reshape(3 * many, -1)  # (3F, n * 3)
        factors = factorised(laplacian)
        found = np.zeros((len(gradients), len(self.fixed), 3), np.float32)
        solved = factors.solve(np.asarray(divergence @ wanted, np.float64))
        found[:, ~self.fixed] = solved.reshape(count, -1, 3).transpose(1, 0, 2)
        return found


def _hat_gradients(points: Points, triangles: NDArray[np.integer[Any]]) -> tuple[Points, Points]:
    """Gradients (F, corner, 3) of the hat functions of the corners, and areas (F,)."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    twice = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / twice
    edges = np.stack([c - b, a - c, b - a], axis=1)  # opposite of each corner
    return np.cross(normals[:, None], edges) / twice[:, None], twice[:, 0] / 2
