"""Random head poses: augmentation in training, and what they add to principal components.

A model that has only seen aligned heads takes a rotated one for another person. Trained on faces in
random poses, and on two faces of a person in two, it puts the pose into X_exp, not into X_id.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facedis_core.geometry.pca import Pca
from facedis_core.nn.distributed import shard_of_randn
from facedis_core.nn.matmul_precision import matmul_precision

_AXES: Final = 3  # the variance of the angle is shared by three axes
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class PoseVariation:
    """Standard deviations of random poses.

    Attributes:
        degrees: of the rotation about the centroid, its axis in any direction.
        mm: of each coordinate of the translation.
    """

    degrees: float = 0.0
    mm: float = 0.0

    def __bool__(self) -> bool:
        return self.degrees > 0 or self.mm > 0


def random_poses(faces: Tensor, poses: PoseVariation, scale: Tensor | float) -> Tensor:
    """Each face rotated and translated at random.

    Args:
        faces: (B, V, 3), in units of `scale` mm.
        poses: size of the random poses; none returns the faces unchanged and draws no numbers.
        scale: mm per unit.

    Returns:
        (B, V, 3).
    """
    if not poses:
        return faces
    drawn = shard_of_randn(faces.new_empty(len(faces), 7))
    angle, axis, translation = drawn.split([1, 3, 3], dim=1)
    rotation = angle * np.deg2rad(poses.degrees) * functional.normalize(axis, dim=1)
    centre = faces.mean(dim=1, keepdim=True)
    distance = poses.mm / scale
    # TF32 would move the vertices of a rotated head by up to 0.07 mm, each otherwise
    with matmul_precision("highest"):
        rotated = (faces - centre) @ _matrices(rotation).mT
    return rotated + centre + distance * translation[:, None]


def _matrices(rotations: Tensor) -> Tensor:
    """Rotation vectors (B, 3) in radians -> matrices (B, 3, 3)."""
    x, y, z = rotations.unbind(dim=1)
    zero = torch.zeros_like(x)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1)
    return torch.linalg.matrix_exp(rows.unflatten(1, (3, 3)))


def pose_motions(mean_face: np.ndarray, poses: PoseVariation) -> np.ndarray:
    """Motions of a face that random poses add to first order, each times a standard normal number.

    Args:
        mean_face: (3V,) mm.
        poses: size of the random poses.

    Returns:
        (6, 3V) mm; (0, 3V) for no poses.
    """
    if not poses:
        return np.empty((0, mean_face.size))
    face = mean_face.reshape(-1, 3)
    axes = np.eye(3)
    rotated = np.cross(axes[:, None], face - face.mean(axis=0))
    rotated *= np.deg2rad(poses.degrees) / _AXES**0.5
    translated = np.broadcast_to(poses.mm * axes[:, None], rotated.shape)
    return np.concatenate([rotated, translated]).reshape(2 * _AXES, -1)


def add_motions(pca: Pca, motions: np.ndarray, components: int) -> Pca:
    """Principal components in mm of faces in random poses, from those of aligned faces.

    The `motions` (k, 3V) add to the variance of the components; the part of a motion outside of
    them replaces those with the least variance. At most so many `components` are kept.
    """
    if not len(motions):
        return pca
    inside = motions @ pca.basis.T
    _, size, outside = np.linalg.svd(motions - inside @ pca.basis, full_matrices=False)
    new = size > _ROUNDING * np.linalg.norm(motions)  # the others are inside up to rounding
    size, outside = size[new], outside[new]
    basis = np.concatenate([pca.basis, outside])
    variance = np.concatenate([pca.variance + (inside**2).sum(axis=0), size**2])
    most = np.argsort(-variance, kind="stable")[:components]
    return Pca(pca.mean, basis[most], variance[most])
