"""The linear model of FLAME: PCA of neutrals, PCA of the offsets to them, maximum a posteriori fit.

Li et al. 2017, "Learning a model of facial shape and expression from 4D scans", without its joints.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from facedis_core.geometry.pca import Faces, Pca, face_blocks, fit_pca

# Least residual variance relative to the largest variance of a coefficient.
LEAST_RESIDUAL: Final = 1e-9


class SplitFaces(NamedTuple):
    """Faces that the model splits.

    Attributes:
        reconstruction, identity: faces (B, V, 3) float32 mm.
        identity_latent, expression_latent: (B, D_id) and (B, D_exp), in standard deviations.
    """

    reconstruction: np.ndarray
    identity: np.ndarray
    identity_latent: np.ndarray
    expression_latent: np.ndarray


@dataclass(frozen=True, eq=False)
class FlameLike:
    """A linear model x = neutral + offset of means, both with coefficients of Gaussian priors.

    Attributes:
        mean_neutral: (3V,) mm.
        mean_offset: (3V,) mm.
        identity: (D_id, 3V), components of neutrals times their standard deviation, mm.
        expression: (D_exp, 3V), the same of offsets.
        residual: variance of a coordinate about the model, mm^2.
    """

    mean_neutral: np.ndarray
    mean_offset: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    residual: float

    @property
    def components(self) -> int:
        """D_id + D_exp."""
        return len(self.identity) + len(self.expression)

    @cached_property
    def encoder(self) -> np.ndarray:
        """(D, 3V): a face minus both means -> its most probable coefficients, in deviations.

        They make |x - z B|^2 / residual + |z|^2 least, B both bases: (B B' + residual I)^-1 B.
        """
        basis = np.concatenate([self.identity, self.expression])
        gram = basis @ basis.T + self.residual * np.eye(len(basis))
        return np.asarray(np.linalg.solve(gram, basis))

    def split(self, vertices: np.ndarray) -> SplitFaces:
        """Reconstructions, identity faces and coefficients of faces (B, V, 3) mm."""
        flat = vertices.reshape(len(vertices), -1).astype(np.float64)
        z = (flat - self.mean_neutral - self.mean_offset) @ self.encoder.T
        z_identity, z_expression = np.split(z, [len(self.identity)], axis=1)
        neutral = self.mean_neutral + z_identity @ self.identity
        full = neutral + self.mean_offset + z_expression @ self.expression
        full, neutral = (x.reshape(vertices.shape).astype(np.float32) for x in (full, neutral))
        return SplitFaces(full, neutral, z_identity, z_expression)


class NeutralOffsets:
    """Faces minus the neutrals of their subjects, read when they are asked for.

    Args:
        vertices: (N, V, 3) mm, an array or a memory map.
        neutrals: (S, V, 3) mm.
        subject: (N,).
    """

    def __init__(self, vertices: np.ndarray, neutrals: np.ndarray, subject: np.ndarray) -> None:
        self.vertices, self.neutrals, self.subject = vertices, neutrals, subject

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, V, 3)."""
        return self.vertices.shape

    def __getitem__(self, at: np.ndarray | tuple[np.ndarray, slice]) -> np.ndarray:
        """Offsets (n, V, 3) float64 mm of some rows; with a slice, of these vertices."""
        rows, part = at if isinstance(at, tuple) else (at, slice(None))
        neutrals = self.neutrals[self.subject[rows], part]
        return np.subtract(self.vertices[rows, part], neutrals, dtype=np.float64)


def fit_flame_like(
    vertices: np.ndarray,
    rows: np.ndarray,
    subject: np.ndarray,
    neutrals: np.ndarray,
    identity: int,
    expression: int,
) -> FlameLike | None:
    """Fit the model to faces and the neutrals, or pseudo-neutrals, of their people.

    The residual variance is what the components leave of neutrals and offsets, which count as
    independent, over all coordinates.

    Args:
        vertices: (N, V, 3) mm, an array or a memory map.
        rows: (n,) training faces.
        subject: (N,).
        neutrals: (S, V, 3) mm; the faces of subjects whose neutral is not finite are left out.
        identity: D_id; fewer components where the neutrals span fewer.
        expression: D_exp, likewise.

    Returns:
        None where no face has a neutral.
    """
    people = np.unique(subject[rows])
    people = people[[bool(np.isfinite(neutrals[person]).all()) for person in people]]
    rows = rows[np.isin(subject[rows], people)]
    if not len(rows):
        return None
    offsets = NeutralOffsets(vertices, neutrals, subject)
    neutral = fit_pca(neutrals, people, identity)
    offset = fit_pca(offsets, rows, expression)
    residual = _left_over(neutrals, people, neutral) + _left_over(offsets, rows, offset)
    largest = max([1.0, *neutral.variance[:1], *offset.variance[:1]])
    return FlameLike(
        neutral.mean,
        offset.mean,
        neutral.basis * np.sqrt(neutral.variance)[:, None],
        offset.basis * np.sqrt(offset.variance)[:, None],
        max(residual, LEAST_RESIDUAL * float(largest)),
    )


def _left_over(faces: Faces, rows: np.ndarray, pca: Pca) -> float:
    """Variance of a coordinate that the components leave, mm^2."""
    blocks = (block.reshape(len(block), -1) for block in face_blocks(faces, rows))
    total = sum(float(((block - pca.mean) ** 2).sum()) for block in blocks) / len(rows)
    return max(total - float(pca.variance.sum()), 0.0) / len(pca.mean)
