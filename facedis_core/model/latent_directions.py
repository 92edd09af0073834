"""Principal directions of latent space, by how far one standard deviation moves the face."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.model.model import LatentPart, Model

_FLOOR: Final = 1e-6  # of the mean variance, added so that the covariance is positive definite


@dataclass(frozen=True, eq=False)
class LatentDirections:
    """Latent directions, by how far they move the face, the farthest first.

    The face is the P vertices that the encoder sees: of a whole head, not the back.

    Attributes:
        steps: float32 (D, D), a row per direction: one standard deviation of the latents.
        mm: float64 (D,), root mean square distance in mm by which a step moves the face, the mean
            of a step to each side, which differ where the decoder is not linear.
        vertices: int64 (P,), the vertices of the face.
        offsets: float32 (D, P, 3) mm, by which a step moves them, half of the way from a step back
            to a step ahead.
    """

    steps: NDArray[np.float32]
    mm: NDArray[np.float64]
    vertices: NDArray[np.int64]
    offsets: NDArray[np.float32]


def leading_directions(
    model: Model, part: LatentPart, latents: NDArray[np.floating] | None = None
) -> LatentDirections:
    """Principal components of the faces that random latents decode to.

    For latents z = L n with n ~ N(0, 1) and covariance L L^T, the decoded offsets are about J L n,
    J the decoder's Jacobian at the origin. With J L = U S V^T the rows of (L V)^T are directions of
    independent, unit variance, whose offsets are orthogonal and of lengths S. J is a central
    difference over a unit to both sides, as latents of usual size vary by about 1.

    Args:
        model: the decoder.
        part: the latents to vary.
        latents: (N, D) of real faces, if known, for their covariance.

    Raises:
        InputError: the model has no such latents.
    """
    model.check_part(part)
    size = getattr(model.config, part)
    every = np.arange(model.config.vertices)
    seen = model.weights.get("encoder.points", every).astype(np.int64)
    ahead, back = _moved(model, part, np.eye(size), seen)
    slope = (ahead - back) / 2
    root = np.linalg.cholesky(_covariance(model, part, latents))
    # J has 3P rows; J^T J has only D
    _, vectors = np.linalg.eigh(root.T @ (slope @ slope.T) @ root)
    steps = (root @ vectors[:, ::-1]).T
    # the decoder may not be linear: measure the true offsets
    ahead, back = _moved(model, part, steps, seen)
    lengths = [np.linalg.norm(moved, axis=1) for moved in (ahead, back)]
    mm = sum(lengths) / 2 / np.sqrt(len(seen))
    order = np.argsort(-mm, kind="stable")
    # the sign is arbitrary: make the largest coordinate positive
    across = ahead - back
    largest = across[np.arange(size), np.abs(across).argmax(axis=1)]
    signs = np.where(largest < 0, -1, 1)[:, None]
    steps *= signs
    offsets = (across * signs / 2)[order].astype(np.float32).reshape(size, -1, 3)
    return LatentDirections(steps[order].astype(np.float32), mm[order], seen, offsets)


def _moved(
    model: Model, part: LatentPart, steps: NDArray[np.float64], vertices: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets of P vertices by steps (K, D) from the origin, and by their opposites, (K, 3P) mm."""
    other = model.config.expression if part == "identity" else model.config.identity

    def offsets(z: NDArray[np.float64]) -> NDArray[np.float64]:
        z, zeros = z.astype(np.float32), np.zeros((len(z), other), np.float32)
        identity, expression = (z, zeros) if part == "identity" else (zeros, z)
        faces = model.decode_vectors(identity, expression, part, offsets=True)
        return faces[:, vertices].reshape(len(z), -1).astype(np.float64)

    rest = offsets(np.zeros((1, steps.shape[1])))
    return offsets(steps) - rest, offsets(-steps) - rest


def _covariance(
    model: Model, part: LatentPart, latents: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    """Covariance of the latents of faces, (D, D), positive definite.

    The model's own where it has one (`Model.latent_covariance`); else the prior N(0, 1) of its
    training, weighted as D faces, with the given latents.
    """
    size = getattr(model.config, part)
    covariance = model.latent_covariance(part)
    if covariance is None:
        covariance = np.eye(size)
        if latents is not None and len(latents) > 1:
            seen = np.atleast_2d(np.cov(latents.astype(np.float64), rowvar=False))
            covariance = (len(latents) * seen + size * covariance) / (len(latents) + size)
    return covariance + _FLOOR * max(float(np.trace(covariance)) / size, 1e-12) * np.eye(size)
