"""Alignment: rigid motions of one face or of whole sets, Procrustes analysis, rotations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.geometry.surface import Points, unit_vectors

# Squared length of the sum of two unit vectors below which they count as opposite.
OPPOSITE_SQUARED = 1e-20
# Root mean squared distance of points to their centroid, relative to its distance from the origin,
# below which they count as one point; single precision cannot tell points apart that are nearer.
COINCIDING = 1e-12


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """x -> scale * rotation @ x + translation, with a proper rotation (3, 3)."""

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    scale: float = 1.0

    def apply(self, points: Points) -> Points:
        """Transform points (..., 3); the answer has the type of `points`."""
        moved = self.scale * (points @ self.rotation.T) + self.translation
        return moved.astype(points.dtype)


@dataclass(frozen=True, eq=False)
class RigidTransforms:
    """N motions: proper rotations (N, 3, 3), translations (N, 3) and scales (N,)."""

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    scale: NDArray[np.float64]

    def apply(self, faces: Points) -> Points:
        """Move each face of (N, V', 3) by its own motion; the answer has the type of `faces`."""
        turned = (self.scale[:, None, None] * self.rotation).transpose(0, 2, 1)
        # Cast before the product: of mixed types, NumPy's takes ten times as long.
        moved = faces.astype(np.float64) @ turned
        moved += self.translation[:, None]
        return moved.astype(faces.dtype)


def rigid_alignment(source: Points, target: Points, *, scale: bool = False) -> RigidTransform:
    """The motion (and scale) that brings `source` (V, 3) nearest to `target` (V, 3).

    `rigid_alignments` of one face. Raises ValueError where the shapes are not one and the same.
    """
    a, b = np.asarray(source), np.asarray(target)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3:
        raise ValueError(f"expected two arrays of one shape (V, 3), got {a.shape} and {b.shape}")
    found = rigid_alignments(a[None], b, scale=scale)
    return RigidTransform(found.rotation[0], found.translation[0], float(found.scale[0]))


def rigid_alignments(sources: Points, targets: Points, *, scale: bool = False) -> RigidTransforms:
    """The motions (and scales) that bring each of `sources` (N, V, 3) nearest to its target.

    Least squares over corresponding vertices: Kabsch 1976, with the closed form for the scale and
    the guard against reflections of Umeyama 1991, "Least-squares estimation of transformation
    parameters between two point patterns", eq. 40-43. Points that all coincide are only shifted.

    Args:
        sources: (N, V, 3).
        targets: (N, V, 3), or (V, 3) for all of them.
        scale: also find the scale; else it is 1.

    Raises:
        ValueError: other shapes.
    """
    a, b = np.array(sources, np.float64), np.asarray(targets, np.float64)
    if a.ndim != 3 or a.shape[2] != 3 or b.shape not in (a.shape, a.shape[1:]):
        raise ValueError(f"expected (N, V, 3) and (N, V, 3) or (V, 3), got {a.shape} and {b.shape}")
    # A product with ones is a sum that is many times faster than the one along an inner axis.
    mean = np.full(a.shape[1], 1 / a.shape[1])
    centre_a, centre_b = mean @ a, mean @ b
    a -= centre_a[:, None]
    b = b - centre_b[..., None, :]
    spread = np.einsum("nvk,nvk->n", a, a)
    # Of coinciding points centring leaves rounding errors, whose directions mean nothing.
    extended = spread > COINCIDING**2 * a.shape[1] * (centre_a**2).sum(1)
    covariance = np.where(extended[:, None, None], np.swapaxes(b, -1, -2) @ a, 0.0)
    u, singular, vt = np.linalg.svd(covariance)
    signs = np.ones_like(singular)
    signs[:, 2] = np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)
    rotation = (u * signs[:, None]) @ vt
    factor = np.ones(len(a))
    if scale:
        np.divide((singular * signs).sum(1), spread, out=factor, where=extended)
    moved_centre = factor[:, None] * (rotation @ centre_a[..., None])[..., 0]
    return RigidTransforms(rotation, centre_b - moved_centre, factor)


def rotation_between(a: Points, b: Points) -> Points:
    """The smallest rotations (..., 3, 3) that take the directions a (..., 3) to b (..., 3).

    Two half turns, the first about a, the second about the bisector of a and b: unlike Rodrigues'
    formula it has no pole, so the answer is a rotation to rounding even for nearly opposite
    vectors. For opposite ones, where any axis across will do, the bisector is the coordinate axis
    least along a, made orthogonal to it. Where a or b is zero (the normal of a vertex without
    triangles) the answer is the identity.
    """
    kind = np.result_type(a, b, np.float32)
    a, b = (unit_vectors(np.asarray(v, np.float64)) for v in np.broadcast_arrays(a, b))
    bisector = a + b
    across = np.eye(3)[np.abs(a).argmin(-1)]
    across = across - (across * a).sum(-1, keepdims=True) * a
    opposite = (bisector**2).sum(-1, keepdims=True) < OPPOSITE_SQUARED
    bisector = unit_vectors(np.where(opposite, across, bisector))
    rotation = _half_turns(bisector) @ _half_turns(a)
    undefined = ~(a.any(-1) & b.any(-1))
    rotation[undefined] = np.eye(3)
    return rotation.astype(kind)


def rotation_about(axis: Points, angle: float) -> Points:
    """The rotation (3, 3) by `angle` radians about a unit vector (3,), by Rodrigues' formula."""
    cross = np.cross(np.eye(3), axis)  # cross @ v is the cross product of the axis and v
    rotation: Points = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation


def _half_turns(axis: Points) -> Points:
    """Rotations (..., 3, 3) by 180 degrees about unit vectors (..., 3)."""
    return 2 * axis[..., :, None] * axis[..., None, :] - np.eye(3)


FaceArray = NDArray[np.float32]
RowIndices = NDArray[np.integer[Any]]

# The mean of aligned faces is hardly moved by a second round, and not measurably by a third.
ALIGNMENT_ROUNDS: Final = 3
# Of the float32 vertices in a block. Some ten times as much is in use while it is moved, all
# copies in float64 counted; small enough to stay in the processor's cache.
BLOCK_BYTES: Final = 2 << 20


def mean_shape(
    faces: FaceArray, rows: RowIndices, chosen: RowIndices, *, scale: bool
) -> NDArray[np.float64]:
    """The mean (V, 3) mm of aligned faces: generalised Procrustes analysis (Gower 1975).

    It starts from the first of `rows`, so its place in space is that face's. With `scale` it keeps
    the faces' mean size, which similarities would let shrink.

    Args:
        faces: (N, V, 3) mm; only read.
        rows: which of them count.
        chosen: the vertices that alignment looks at.
        scale: align by similarities, not only rigidly.

    Raises:
        InputError: there are no rows, or no finite face among them.
    """
    target = next((block[0].astype(np.float64) for _, block in _finite_blocks(faces, rows)), None)
    if target is None:
        raise InputError(
            "no face to find the mean face from; alignment needs a training face, so label one "
            "as such, or prepare with --align none or --like"
        )
    size = _mean_size(faces, rows) if scale else 0.0
    for _ in range(ALIGNMENT_ROUNDS):
        total, count = np.zeros_like(target), 0
        for some, block in _finite_blocks(faces, rows):
            for face in _aligned(block, target[chosen], chosen, scale=scale):
                total += face
            count += len(some)
        target = total / count
        if scale:
            centre = target.mean(0)
            target = centre + (target - centre) * (size / float(_sizes(target[None])[0]))
    return target


def align_to(
    faces: FaceArray,
    target: NDArray[Any],
    chosen: RowIndices,
    *,
    scale: bool,
    rows: RowIndices | None = None,
) -> None:
    """Move faces (N, V, 3), in place, to where their chosen vertices lie nearest to the target's.

    Args:
        faces: (N, V, 3) mm.
        target: (V, 3) mm.
        chosen: the vertices that alignment looks at; the whole face moves.
        scale: by similarities, not only rigidly.
        rows: which faces; None = all.
    """
    for some, block in _finite_blocks(faces, np.arange(len(faces)) if rows is None else rows):
        faces[some] = _aligned(block, target[chosen], chosen, scale=scale)


def align_by_neutrals(
    faces: FaceArray, neutral_row: RowIndices, target: NDArray[Any], stable: RowIndices
) -> None:
    """Move faces (N, V, 3) mm, in place, as BU-3DFE's protocol wants it.

    Neutral faces are aligned to the target by all vertices, every other face to its subject's
    aligned neutral by the stable vertices, which expressions hardly move. Without a neutral, or
    with one that is not finite, it is aligned to the target by the stable vertices.

    Args:
        faces: (N, V, 3) mm.
        neutral_row: (N,), the row of the subject's neutral face, a neutral's own row, -1 = none.
        target: (V, 3) mm, such as the mean of the training neutrals by all vertices.
        stable: vertex numbers.

    Raises:
        ValueError: a face's neutral has another neutral.
    """
    is_neutral = neutral_row == np.arange(len(faces))
    if not is_neutral[neutral_row[neutral_row >= 0]].all():
        raise ValueError("a neutral face must be its own neutral")
    all_vertices = np.arange(faces.shape[1])
    known = np.zeros(len(faces), np.bool_)
    for some, block in _finite_blocks(faces, np.flatnonzero(is_neutral)):
        faces[some] = _aligned(block, target, all_vertices, scale=False)
        known[some] = True
    for some, block in _finite_blocks(faces, np.flatnonzero(~is_neutral)):
        own = neutral_row[some]
        found = (own >= 0) & known[own]
        goals = np.where(found[:, None, None], faces[own[:, None], stable], target[stable])
        faces[some] = _aligned(block, goals, stable, scale=False)


def _finite_blocks(faces: FaceArray, rows: RowIndices) -> Iterator[tuple[RowIndices, FaceArray]]:
    """Rows and copies of their faces (n, V, 3), n > 0, in order, less those not finite."""
    faces = np.asarray(faces)  # a memory map's own slicing is slow
    count = max(BLOCK_BYTES // max(faces[:1].nbytes, 1), 1)
    for start in range(0, len(rows), count):
        some = rows[start : start + count]
        block = faces[some]
        whole = np.isfinite(block).all(axis=(1, 2))
        if whole.all():
            yield some, block
        elif whole.any():
            yield some[whole], block[whole]


def _aligned(
    block: FaceArray, goals: NDArray[Any], chosen: RowIndices, *, scale: bool
) -> FaceArray:
    """The faces (n, V, 3), their chosen vertices as near as can be to goals ([n,] C, 3)."""
    return rigid_alignments(block.take(chosen, axis=1), goals, scale=scale).apply(block)


def _mean_size(faces: FaceArray, rows: RowIndices) -> float:
    return float(np.concatenate([_sizes(block) for _, block in _finite_blocks(faces, rows)]).mean())


def _sizes(faces: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean squared distance (n,) mm of a face's vertices to their centroid, (n, V, 3) mm."""
    exact = faces.astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    return np.sqrt(np.einsum("nvk,nvk->n", exact, exact) / faces.shape[1])
