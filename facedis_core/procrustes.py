"""Alignment of whole sets of faces, in place and block by block: N may be many gigabytes.

Every face of a block is moved by itself, and sums run face after face, so the bytes do not depend
on how the set is cut into blocks. Faces with a value that is not finite are left as they are: NaN
stands for a neutral that nobody knows.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.geometry import rigid_alignments

Faces = NDArray[np.float32]
Rows = NDArray[np.integer[Any]]

# The mean of aligned faces is hardly moved by a second round, and not measurably by a third.
ALIGNMENT_ROUNDS: Final = 3
# Of the float32 vertices in a block. Some ten times as much is in use while it is moved, all
# copies in float64 counted; small enough to stay in the processor's cache.
BLOCK_BYTES: Final = 2 << 20


def mean_target(faces: Faces, rows: Rows, chosen: Rows, *, scale: bool) -> NDArray[np.float64]:
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
    target = next((block[0].astype(np.float64) for _, block in _finite(faces, rows)), None)
    if target is None:
        raise InputError(
            "no face to find the mean face from; alignment needs a training face, so label one "
            "as such, or prepare with --align none or --like"
        )
    size = _mean_size(faces, rows) if scale else 0.0
    for _ in range(ALIGNMENT_ROUNDS):
        total, count = np.zeros_like(target), 0
        for some, block in _finite(faces, rows):
            for face in _moved(block, target[chosen], chosen, scale=scale):
                total += face
            count += len(some)
        target = total / count
        if scale:
            centre = target.mean(0)
            target = centre + (target - centre) * (size / float(_sizes(target[None])[0]))
    return target


def align_to(
    faces: Faces,
    target: NDArray[Any],
    chosen: Rows,
    *,
    scale: bool,
    rows: Rows | None = None,
) -> None:
    """Move faces (N, V, 3), in place, to where their chosen vertices lie nearest to the target's.

    Args:
        faces: (N, V, 3) mm.
        target: (V, 3) mm.
        chosen: the vertices that alignment looks at; the whole face moves.
        scale: by similarities, not only rigidly.
        rows: which faces; None = all.
    """
    for some, block in _finite(faces, np.arange(len(faces)) if rows is None else rows):
        faces[some] = _moved(block, target[chosen], chosen, scale=scale)


def align_by_neutrals(faces: Faces, neutral_row: Rows, target: NDArray[Any], stable: Rows) -> None:
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
    for some, block in _finite(faces, np.flatnonzero(is_neutral)):
        faces[some] = _moved(block, target, all_vertices, scale=False)
        known[some] = True
    for some, block in _finite(faces, np.flatnonzero(~is_neutral)):
        own = neutral_row[some]
        found = (own >= 0) & known[own]
        goals = np.where(found[:, None, None], faces[own[:, None], stable], target[stable])
        faces[some] = _moved(block, goals, stable, scale=False)


def _finite(faces: Faces, rows: Rows) -> Iterator[tuple[Rows, Faces]]:
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


def _moved(block: Faces, goals: NDArray[Any], chosen: Rows, *, scale: bool) -> Faces:
    """The faces (n, V, 3), their chosen vertices as near as can be to goals ([n,] C, 3)."""
    return rigid_alignments(block.take(chosen, axis=1), goals, scale=scale).apply(block)


def _mean_size(faces: Faces, rows: Rows) -> float:
    return float(np.concatenate([_sizes(block) for _, block in _finite(faces, rows)]).mean())


def _sizes(faces: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean squared distance (n,) mm of a face's vertices to their centroid, (n, V, 3) mm."""
    exact = faces.astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    return np.sqrt(np.einsum("nvk,nvk->n", exact, exact) / faces.shape[1])
