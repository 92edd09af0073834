"""Extension of displacements from some vertices of a head to all others.

A model may have the face alone, and of its vertices only some; what else a head has must move with
it: skin between and beside these vertices, eyeballs, teeth, gums, lashes.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import missing_extra
from facedis_core.geometry.face_regions import nose_tip
from facedis_core.geometry.sparse import factorised
from facedis_core.geometry.surface import half_cotangents

Points = NDArray[Any]

# The length over which displacements of skin fade where no vertex is known. On the heads of the
# open benchmark 14 to 40 mm leave 0.3 mm at the rim of the face, 20 mm 0.06 mm on head and neck.
FADING_MM: Final = 20.0
LEAST_SHARE: Final = 5e-4  # of a known displacement, in the matrix
_SOLVED_AT_ONCE: Final = 64
_BALL: Final = 0.05  # greatest deviation from a sphere, relative to its radius
# What is inside of the mouth, relative to the tip of the nose, in mm of an adult.
_MOUTH: Final = ((-40.0, 40.0), (-75.0, -10.0), (-110.0, -12.0))
_NEIGHBOURS: Final = 4
_BESIDE_MM: Final = 15.0  # parts no farther from the skin follow it, such as lashes


@dataclass(frozen=True, eq=False)
class Extension:
    """A linear operator from displacements of K known vertices of a head to all V vertices.

    - Skin: the displacement u that is known at the known vertices and minimises the sum of
      |grad u|^2 + |u|^2 / FADING_MM^2 over the connected surface: inside of the face it is
      harmonic, beyond it fades.
    - Parts that are not connected with known vertices: balls (eyes) and what is inside of the
      mouth stay, for no skin tells whether teeth move; what lies along the skin follows it.

    Attributes:
        count: V.
        known: (K,).
        skin: (n,) other vertices of the skin.
        solve, coupling: the system of these: solve(coupling @ known displacements).
        following: (m,) vertices of parts along the skin.
        near, share: (m, k) places in `known`, and shares of their displacements.
    """

    count: int
    known: NDArray[np.integer[Any]]
    skin: NDArray[np.intp]
    solve: Any
    coupling: Any
    following: NDArray[np.intp]
    near: NDArray[np.intp]
    share: Points

    def apply(self, displacements: Points) -> NDArray[np.float64]:
        """Displacements (V, 3) mm of all vertices from those (K, 3) of the known ones."""
        given = np.asarray(displacements, np.float64)
        found = np.zeros((self.count, 3))
        found[self.known] = given
        if len(self.skin):
            found[self.skin] = self.solve(np.asarray(self.coupling @ given))
        found[self.following] = (self.share[:, :, None] * given[self.near]).sum(axis=1)
        return found

    def matrix(self) -> Any:
        """The same operator as a sparse matrix (V, K); shares below LEAST_SHARE are left out."""
        from scipy.sparse import coo_array, vstack

        count = len(self.known)
        rows, columns = [self.known], [np.arange(count)]
        values = [np.ones(count)]
        if len(self.skin):
            coupling = self.coupling.tocsc()
            rims = np.flatnonzero(np.diff(coupling.indptr))  # known vertices beside others
            parts = []
            for start in range(0, len(rims), _SOLVED_AT_ONCE):
                solved = self.solve(coupling[:, rims[start : start + _SOLVED_AT_ONCE]].toarray()).T
                whole = solved.sum(axis=0)
                solved[solved < LEAST_SHARE] = 0
                parts.append((coo_array(solved), whole))
            shares = vstack([part for part, _ in parts]).tocoo()
            # what is left out is spread over what is kept, so that a shift stays a shift
            whole = np.sum([whole for _, whole in parts], axis=0)
            kept = np.bincount(shares.col, shares.data, len(self.skin))
            factor = np.where(kept > 0, whole / np.maximum(kept, 1e-300), 0)
            rows.append(self.skin[shares.col])
            columns.append(rims[shares.row])
            values.append(shares.data * factor[shares.col])
        rows.append(np.repeat(self.following, self.near.shape[1]))
        columns.append(self.near.ravel())
        values.append(self.share.ravel())
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return coo_array(entries, shape=(self.count, count)).tocsr()


def head_extension(
    vertices: Points, triangles: NDArray[np.integer[Any]], known: NDArray[np.integer[Any]]
) -> Extension:
    """The extension for one head at rest.

    Args:
        vertices: (V, 3) mm; y is up and the face looks towards +z.
        triangles: (F, 3).
        known: (K,) the vertices whose displacements will be given.

    Raises:
        UsageError: SciPy is not installed.
    """
    try:
        from scipy.sparse import csr_array, diags_array
        from scipy.sparse.csgraph import connected_components
        from scipy.spatial import cKDTree
    except ImportError:
        raise missing_extra("moving vertices that the model does not have", "prep") from None
    points, count = np.asarray(vertices, np.float64), len(vertices)
    known = np.asarray(known)
    edges, cotangents, areas = half_cotangents(points, triangles)
    # positive, so that every displacement is a mean of others
    weight = np.maximum(cotangents, 1e-3)
    area = np.bincount(triangles.ravel(), np.repeat(areas / 3, 3), count)
    (i, j), both = edges.T, np.concatenate([weight, weight])
    stiffness = csr_array(
        (both, (np.concatenate([i, j]), np.concatenate([j, i]))), shape=(count, count)
    )
    _, part = connected_components(stiffness, directed=False)
    is_known = np.zeros(count, np.bool_)
    is_known[known] = True
    skin = np.flatnonzero(np.isin(part, part[known]) & ~is_known)
    diagonal = np.asarray(stiffness.sum(axis=1)).ravel() + area / FADING_MM**2
    matrix = (diags_array(diagonal) - stiffness).tocsc()
    rows = matrix[skin]
    solve = None
    if len(skin):
        solve = factorised(rows[:, skin]).solve

    face = points[known]
    tip, tree = nose_tip(face), cKDTree(face)
    follows = np.zeros(count, np.bool_)
    apart = np.flatnonzero(~np.isin(part, part[known]))
    for number in np.unique(part[apart]):
        piece = np.flatnonzero(part == number)
        in_mouth = tip is not None and is_in_mouth(points[piece].mean(axis=0) - tip)
        if not in_mouth and ball_of(points[piece]) is None:
            follows[piece] = tree.query(points[piece])[0].max() < _BESIDE_MM
    following = np.flatnonzero(follows)
    distance, near = tree.query(points[following], range(1, min(_NEIGHBOURS, len(known)) + 1))
    share = 1 / np.maximum(distance, 1e-3) ** 2
    share /= share.sum(axis=1, keepdims=True)
    return Extension(count, known, skin, solve, -rows[:, known], following, near, share)


class Ball(NamedTuple):
    """A sphere: its centre (3,) and radius, in mm."""

    centre: Points
    radius: float


def ball_of(points: Points) -> Ball | None:
    """The sphere that points (n, 3) lie on: |x|^2 = 2 c.x + r^2 - |c|^2 in least squares.

    None where they lie on none.
    """
    middle = points.mean(axis=0)
    centred = points - middle
    if len(points) < 8 or np.linalg.matrix_rank(centred, 1e-3) < 3:
        return None
    system = np.column_stack([2 * centred, np.ones(len(points))])
    *centre, rest = np.linalg.lstsq(system, (centred**2).sum(axis=1), rcond=None)[0]
    radius = float(np.sqrt(max(rest + np.dot(centre, centre), 0.0)))
    distance = np.linalg.norm(centred - np.array(centre), axis=1)
    if np.sqrt(((distance - radius) ** 2).mean()) >= _BALL * radius:
        return None
    return Ball(middle + centre, radius)


def is_in_mouth(centre: Points) -> bool:
    """Whether a part with this centre (3,) mm, relative to the tip of the nose, is in the mouth."""
    return all(low < value < high for value, (low, high) in zip(centre, _MOUTH, strict=True))
