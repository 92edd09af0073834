"""Alignment of faces by rigid motions or similarities, Procrustes analysis, rotations."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.surface import Points

FaceArray = NDArray[np.float32]
RowIndices = NDArray[np.integer[Any]]

# Root mean squared distance of points to their centroid, relative to its distance from the origin,
# below which they count as one point; single precision cannot tell nearer points apart.
COINCIDING: Final = 1e-12
# The mean of aligned faces hardly moves in a second round, and not measurably in a third.
ALIGNMENT_ROUNDS: Final = 3
# Size of a block of float32 vertices. With the float64 copies a block needs some ten times as
# much, which still fits into the processor's cache.
BLOCK_BYTES: Final = 2 << 20
_REWEIGHTED: Final = 3  # rounds of a robust alignment
_LEAST_WIDTH_MM: Final = 0.2  # of its weights


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """The map x -> scale * rotation @ x + translation.

    Attributes:
        rotation: proper rotation (3, 3).
        translation: (3,), in the unit of the points.
        scale: factor; 1 for a rigid motion.
    """

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    scale: float = 1.0

    def apply(self, points: Points) -> Points:
        """Transformed points (..., 3), with the dtype of `points`."""
        moved = self.scale * (points @ self.rotation.T) + self.translation
        return moved.astype(points.dtype)


@dataclass(frozen=True, eq=False)
class RigidTransforms:
    """The transform of each of N faces.

    Attributes:
        rotation: proper rotations (N, 3, 3).
        translation: (N, 3), in the unit of the faces.
        scale: (N,).
    """

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    scale: NDArray[np.float64]

    def apply(self, faces: Points) -> Points:
        """Each of N faces (N, V', 3) by its own transform, with the dtype of `faces`."""
        rotation = (self.scale[:, None, None] * self.rotation).transpose(0, 2, 1)
        # cast before the product: NumPy's product of mixed types takes ten times as long
        moved = faces.astype(np.float64) @ rotation
        moved += self.translation[:, None]
        return moved.astype(faces.dtype)


def rigid_alignment(source: Points, target: Points, *, scale: bool = False) -> RigidTransform:
    """`rigid_alignments` of one face.

    Args:
        source: (V, 3).
        target: (V, 3).
        scale: also find the scale; else it is 1.

    Raises:
        ValueError: different shapes.
    """
    a, b = np.asarray(source), np.asarray(target)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3:
        raise ValueError(f"expected two arrays of one shape (V, 3), got {a.shape} and {b.shape}")
    found = rigid_alignments(a[None], b, scale=scale)
    return RigidTransform(found.rotation[0], found.translation[0], float(found.scale[0]))


def rigid_alignments(sources: Points, targets: Points, *, scale: bool = False) -> RigidTransforms:
    """The least-squares alignment of each face to its target over corresponding vertices.

    Kabsch 1976, with the closed form for the scale and the guard against reflections of Umeyama
    1991, "Least-squares estimation of transformation parameters between two point patterns",
    eq. 40-43. Points that all coincide are only translated.

    Args:
        sources: (N, V, 3).
        targets: (N, V, 3), or (V, 3) for all faces.
        scale: also find the scale; else it is 1.

    Raises:
        ValueError: the shapes do not fit.
    """
    a, b = np.array(sources, np.float64), np.asarray(targets, np.float64)
    if a.ndim != 3 or a.shape[2] != 3 or b.shape not in (a.shape, a.shape[1:]):
        raise ValueError(f"expected (N, V, 3) and (N, V, 3) or (V, 3), got {a.shape} and {b.shape}")
    # a product with constants is many times faster than a mean along an inner axis
    mean = np.full(a.shape[1], 1 / a.shape[1])
    centre_a, centre_b = mean @ a, mean @ b
    a -= centre_a[:, None]
    b = b - centre_b[..., None, :]
    spread = np.einsum("nvk,nvk->n", a, a)
    # centred points that coincide are rounding errors, whose directions mean nothing
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


def robust_alignment(source: Points, target: Points) -> RigidTransform:
    """The rigid alignment of vertices (V, 3) mm of which some have moved, by reweighting.

    Least squares with weights 1 / (1 + (r / s)^2)^2 of the distances r, s three times their median:
    what differs a little everywhere, as two people do, is all kept.
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    found = rigid_alignment(a, b)
    for _ in range(_REWEIGHTED):
        distance = np.linalg.norm(found.apply(a) - b, axis=1)
        width = max(3 * float(np.median(distance)), _LEAST_WIDTH_MM)
        weight = 1 / (1 + (distance / width) ** 2) ** 2
        weight /= weight.sum()
        centre_a, centre_b = weight @ a, weight @ b
        u, _, vt = np.linalg.svd(((b - centre_b) * weight[:, None]).T @ (a - centre_a))
        rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        found = RigidTransform(rotation, centre_b - rotation @ centre_a)
    return found


def rotation_about(axis: Points, angle: float) -> Points:
    """The rotation (3, 3) about a unit vector (3,) by an angle in radians: Rodrigues' formula."""
    cross = np.cross(np.eye(3), axis)  # cross @ v is the cross product of the axis and v
    rotation: Points = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation


def right_angles(rotation: Points) -> Points:
    """The rotation (3, 3) by right angles, of the 24 that there are, that is nearest to another."""
    best = np.eye(3)
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            turn = np.eye(3)[list(order)] * signs
            if np.linalg.det(turn) > 0 and np.sum(turn * rotation) > np.sum(best * rotation) + 1e-9:
                best = turn
    return best


def mean_shape(
    faces: FaceArray, rows: RowIndices, chosen: RowIndices, *, scale: bool
) -> NDArray[np.float64]:
    """The mean (V, 3) mm of aligned faces by generalised Procrustes analysis (Gower 1975).

    The position is that of the first face. With `scale` the size is the mean size of the faces;
    similarities alone would let it shrink.

    Args:
        faces: (N, V, 3) mm.
        rows: (n,) faces to take.
        chosen: vertices to align by.
        scale: align by similarities instead of rigid motions.

    Raises:
        InputError: no finite face among the rows.
    """
    target = next((block[0].astype(np.float64) for _, block in _finite_blocks(faces, rows)), None)
    if target is None:
        raise InputError(
            "no face to find the mean face from; alignment needs a training face, so label one "
            "as such, or prepare with --align none or --like",
            ErrorCode.SPLIT_EMPTY,
        )
    sizes = [_sizes(block) for _, block in _finite_blocks(faces, rows)] if scale else []
    for _ in range(ALIGNMENT_ROUNDS):
        total, count = np.zeros_like(target), 0
        for _, block in _finite_blocks(faces, rows):
            for face in _aligned(block, target[chosen], chosen, scale=scale):
                total += face
            count += len(block)
        target = total / count
        if scale:
            centre = target.mean(0)
            factor = float(np.concatenate(sizes).mean()) / float(_sizes(target[None])[0])
            target = centre + (target - centre) * factor
    return target


def align_to(
    faces: FaceArray,
    target: NDArray[Any],
    chosen: RowIndices,
    *,
    scale: bool,
    rows: RowIndices | None = None,
) -> None:
    """Align faces in place to one target.

    Args:
        faces: (N, V, 3) mm; those that are not finite stay.
        target: (V, 3) mm.
        chosen: vertices to align by; the whole face moves.
        scale: align by similarities instead of rigid motions.
        rows: faces to align; None = all.
    """
    rows = np.arange(len(faces)) if rows is None else rows
    for finite, block in _finite_blocks(faces, rows):
        faces[finite] = _aligned(block, target[chosen], chosen, scale=scale)


def align_by_neutrals(
    faces: FaceArray, neutral_row: RowIndices, target: NDArray[Any], stable: RowIndices
) -> None:
    """Align faces in place by the protocol of BU-3DFE.

    Neutral faces are aligned to the target by all vertices, every other face to the aligned
    neutral of its subject by the stable vertices, which expressions hardly move. A face whose
    subject has no finite neutral is aligned to the target by the stable vertices.

    Args:
        faces: (N, V, 3) mm; those that are not finite stay.
        neutral_row: (N,) row of the subject's neutral face; -1 = none.
        target: (V, 3) mm, such as the mean of the training neutrals by all vertices.
        stable: indices of the stable vertices.

    Raises:
        ValueError: the neutral row of a neutral face is another row.
    """
    is_neutral = neutral_row == np.arange(len(faces))
    if not is_neutral[neutral_row[neutral_row >= 0]].all():
        raise ValueError("a neutral face must be its own neutral")
    all_vertices = np.arange(faces.shape[1])
    aligned = np.zeros(len(faces), np.bool_)
    for rows, block in _finite_blocks(faces, np.flatnonzero(is_neutral)):
        faces[rows] = _aligned(block, target, all_vertices, scale=False)
        aligned[rows] = True
    for rows, block in _finite_blocks(faces, np.flatnonzero(~is_neutral)):
        neutral = neutral_row[rows]
        has_neutral = (neutral >= 0) & aligned[neutral]
        targets = np.where(
            has_neutral[:, None, None], faces[neutral[:, None], stable], target[stable]
        )
        faces[rows] = _aligned(block, targets, stable, scale=False)


def _finite_blocks(faces: FaceArray, rows: RowIndices) -> Iterator[tuple[RowIndices, FaceArray]]:
    """Rows (n,) of finite faces in order and copies of these faces (n, V, 3), n > 0."""
    faces = np.asarray(faces)  # a memory map's own slicing is slow
    count = max(BLOCK_BYTES // max(faces[:1].nbytes, 1), 1)
    for start in range(0, len(rows), count):
        part = rows[start : start + count]
        block = faces[part]
        finite = np.isfinite(block).all(axis=(1, 2))
        if finite.all():
            yield part, block
        elif finite.any():
            yield part[finite], block[finite]


def _aligned(
    block: FaceArray, targets: NDArray[Any], chosen: RowIndices, *, scale: bool
) -> FaceArray:
    """Faces (n, V, 3) aligned by their chosen vertices to targets ([n,] C, 3)."""
    return rigid_alignments(block.take(chosen, axis=1), targets, scale=scale).apply(block)


def _sizes(faces: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean squared distance (n,) mm of the vertices of faces (n, V, 3) to their centroid."""
    exact = faces.astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    return np.sqrt(np.einsum("nvk,nvk->n", exact, exact) / faces.shape[1])
