"""Heads turned and moved in training, so that a model takes the pose of a head for expression.

What has seen heads that all lie alike takes a turned one for another person. Shown every face in
another pose each time, and a person's two faces in two, a model puts the pose into X_exp, and keeps
it out of X_id.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facedis_core import world
from facedis_core.linear import Pca

_AXES: Final = 3  # of any direction: each has a third of the variance of the angle
_ROUNDING: Final = 1e-9


def posed(faces: Tensor, degrees: float, distance: float | Tensor) -> Tensor:
    """Each face turned about its centroid and moved, at random and rigidly; (B, V, 3).

    Args:
        faces: (B, V, 3).
        degrees: standard deviation of the angle, about an axis of any direction.
        distance: standard deviation of each coordinate of the way, in the unit of the faces.
    """
    angle, axis, way = world.normal_like(faces.new_empty(len(faces), 7)).split([1, 3, 3], dim=1)
    turn = angle * np.deg2rad(degrees) * functional.normalize(axis, dim=1)
    centre = faces.mean(dim=1, keepdim=True)
    return (faces - centre) @ _rotations(turn).mT + centre + distance * way[:, None]


def _rotations(turns: Tensor) -> Tensor:
    """Rotation vectors (B, 3) in radians -> matrices (B, 3, 3)."""
    x, y, z = turns.unbind(dim=1)
    none = torch.zeros_like(x)
    rows = torch.stack([none, -z, y, z, none, -x, -y, x, none], dim=1)
    return torch.linalg.matrix_exp(rows.unflatten(1, (3, 3)))


def with_poses(pca: Pca, degrees: float, distance: float, components: int) -> Pca:
    """Principal components of faces that are posed so, at most so many, from those at rest.

    Small motions of the mean face add to the variance; what of them lies outside the components
    takes the place of those with less. Other arguments as of `posed`, lengths in mm.
    """
    face = pca.mean.reshape(-1, 3)
    axes = np.eye(3)
    turned = np.cross(axes[:, None], face - face.mean(axis=0)) * np.deg2rad(degrees) / _AXES**0.5
    moved = np.broadcast_to(distance * axes[:, None], turned.shape)
    motions = np.concatenate([turned, moved]).reshape(2 * _AXES, -1)
    inside = motions @ pca.basis.T
    _, size, outside = np.linalg.svd(motions - inside @ pca.basis, full_matrices=False)
    new = size > _ROUNDING * np.linalg.norm(motions)  # others are inside, but for rounding
    size, outside = size[new], outside[new]
    basis = np.concatenate([pca.basis, outside])
    variance = np.concatenate([pca.variance + (inside**2).sum(axis=0), size**2])
    most = np.argsort(-variance, kind="stable")[:components]
    return Pca(pca.mean, basis[most], variance[most])
