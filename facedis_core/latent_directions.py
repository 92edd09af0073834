"""The directions of latent space that move the face most, in steps of what faces vary."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.inference import LatentPart, Model

_FLOOR: Final = 1e-6  # of the largest variance: what never varied still has a direction


@dataclass(frozen=True, eq=False)
class LatentDirections:
    """Latent directions, the one that moves the face most first.

    Attributes:
        steps: float32 (D, D), a row a direction: what one standard deviation adds to the latents.
        mm: float64 (D,), the root mean square over vertices of what that moves, in mm, on average
            of a step to each side: where a decoder bends these are not alike.
    """

    steps: NDArray[np.float32]
    mm: NDArray[np.float64]


def leading_directions(
    model: Model, part: LatentPart, latents: NDArray[np.floating] | None = None
) -> LatentDirections:
    """The principal components of the faces that varying latents decode to.

    For latents z = L n with n ~ N(0, 1) and covariance L L^T, the decoded offsets are about J L n,
    J the decoder's slope at the origin. With J L = U S V^T the rows of (L V)^T are directions of
    independent, unit variance, whose offsets are orthogonal and of lengths S. J is taken across
    a unit to both sides, so that it is what latents of usual size do where a decoder bends.

    Args:
        model: what decodes.
        part: whose latents.
        latents: (N, D) of real faces, where there are some; they tell how latents vary.
    """
    size = getattr(model.config, part)
    ahead, back = _moved(model, part, np.eye(size))
    slope = (ahead - back) / 2
    root = np.linalg.cholesky(_covariance(model, part, latents))
    # J has 3V rows; its products with itself have only D
    _, vectors = np.linalg.eigh(root.T @ (slope @ slope.T) @ root)
    steps = (root @ vectors[:, ::-1]).T
    # a decoder that bends moves the face otherwise than its slope says
    ahead, back = _moved(model, part, steps)
    lengths = [np.linalg.norm(moved, axis=1) for moved in (ahead, back)]
    mm = sum(lengths) / 2 / np.sqrt(model.config.vertices)
    order = np.argsort(-mm, kind="stable")
    # the sign is free: let the coordinate that moves most grow
    across = ahead - back
    largest = across[np.arange(size), np.abs(across).argmax(axis=1)]
    steps[largest < 0] *= -1
    return LatentDirections(steps[order].astype(np.float32), mm[order])


def _moved(
    model: Model, part: LatentPart, steps: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How steps (K, D) of latents from the origin move the face, and how their opposites do.

    Each (K, 3V) mm.
    """
    other = model.config.expression if part == "identity" else model.config.identity

    def offsets(z: NDArray[np.float64]) -> NDArray[np.float64]:
        z, zeros = z.astype(np.float32), np.zeros((len(z), other), np.float32)
        identity, expression = (z, zeros) if part == "identity" else (zeros, z)
        faces = model.decode(identity, expression, part, offsets=True)
        return faces.reshape(len(z), -1).astype(np.float64)

    rest = offsets(np.zeros((1, steps.shape[1])))
    return offsets(steps) - rest, offsets(-steps) - rest


def _covariance(
    model: Model, part: LatentPart, latents: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    """How the latents of faces vary, (D, D), positive definite.

    Some models know; of the others the prior N(0, 1) of their training is all that is known, which
    counts as D faces beside those given.
    """
    size = getattr(model.config, part)
    covariance = model.latent_covariance(part)
    if covariance is None:
        covariance = np.eye(size)
        if latents is not None and len(latents) > 1:
            seen = np.atleast_2d(np.cov(latents.astype(np.float64), rowvar=False))
            covariance = (len(latents) * seen + size * covariance) / (len(latents) + size)
    return covariance + _FLOOR * max(float(np.trace(covariance)) / size, 1e-12) * np.eye(size)
