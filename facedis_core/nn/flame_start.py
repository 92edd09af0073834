"""Weights of the linear network that make it FLAME's linear model, in closed form.

PCA of the neutrals, PCA of the offsets to them, and latents of maximum a posteriori probability
(Li et al. 2017, without joints), as in `geometry.flame_like`.
"""

from typing import Final

import numpy as np

from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.geometry.flame_like import FlameLike, fit_flame_like
from facedis_core.geometry.pca import face_blocks
from facedis_core.model.config import LinearConfig
from facedis_core.nn.autoencoder import InitialData

# Relative to the largest variance of the training faces: the deviation of directions in which they
# hardly vary, such as that of a mean, is not taken for smaller.
_LEAST_VARIANCE: Final = 1e-8


def flame_weights(
    config: LinearConfig, data: InitialData, mean_face: np.ndarray, scale: float
) -> dict[str, np.ndarray]:
    """The weights of a linear network by their names.

    Its basis spans the components of neutrals and offsets and both means, along the principal axes
    of the training faces. Latents beyond the components that there are stay zero.

    Args:
        config: of an encoder that sees all vertices.
        data: with neutrals, and without random poses.
        mean_face: (V, 3) mm.
        scale: mm per unit of normalised coordinates.

    Raises:
        InputError: the training faces are all alike.
        UsageError: no neutrals, or an encoder of points, bilinear terms or random poses.
    """
    if data.neutrals is None:
        raise UsageError(
            "FLAME's model is fitted to neutrals; give --neutrals, or --set pseudo_neutral=auto",
            ErrorCode.OPTION_CONFLICT,
        )
    if config.points is not None or config.bilinear is not None or data.poses:
        raise UsageError(
            "FLAME's model is linear and sees all vertices of aligned faces; leave out points, "
            "bilinear, pose_degrees and pose_mm, or --set linear_fit=split",
            ErrorCode.OPTION_CONFLICT,
        )
    subject = np.zeros(len(data.vertices), np.int64)
    subject[data.rows] = data.subject
    model = fit_flame_like(
        data.vertices, data.rows, subject, data.neutrals, config.identity, config.expression
    )
    if model is None or not model.components:
        raise InputError(
            "the training faces are all alike; expected faces that differ", ErrorCode.FACES_ALIKE
        )
    mean = mean_face.ravel().astype(np.float64)
    start = model.mean_neutral - mean
    span = np.concatenate([model.identity, model.expression, [start, model.mean_offset]])
    _, size, axes = np.linalg.svd(span, full_matrices=False)
    axes = axes[size > 1e-6 * size[0]]
    faces = np.concatenate(
        [
            (block.reshape(len(block), -1) - mean) @ axes.T
            for block in face_blocks(data.vertices, data.rows)
        ]
    )
    variance, turn = np.linalg.eigh(faces.T @ faces / len(faces))
    basis = turn.T[::-1] @ axes
    variance = np.maximum(variance[::-1], _LEAST_VARIANCE * variance[-1])
    return weights_on_basis(model, config, basis, np.sqrt(variance), mean_face, scale)


def weights_on_basis(
    model: FlameLike,
    config: LinearConfig,
    basis: np.ndarray,
    deviation: np.ndarray,
    mean_face: np.ndarray,
    scale: float,
) -> dict[str, np.ndarray]:
    """The weights of a linear network that is FLAME's linear model.

    Args:
        model: the linear model.
        config: latents beyond the components of the model stay zero.
        basis: (K, 3V), orthonormal, spanning components and means.
        deviation: (K,) mm, of faces along it.
        mean_face: (V, 3) mm.
        scale: mm per unit of normalised coordinates.
    """
    # X_id of the latent zero, minus the mean face
    start = model.mean_neutral - mean_face.ravel().astype(np.float64)
    weights = {
        "basis": basis.astype(np.float16 if config.half_basis else np.float32),
        "deviation": deviation / scale,
    }
    encoder = model.encoder @ basis.T  # (D, K)
    bias = -model.encoder @ (start + model.mean_offset)
    parts = np.split(np.arange(model.components), [len(model.identity)])
    for name, part, own, offset in (
        ("identity", parts[0], model.identity, start),
        ("expression", parts[1], model.expression, model.mean_offset),
    ):
        count = getattr(config, name)
        weights |= {
            f"encoder.{name}_mean.weight": _padded(encoder[part] * deviation, count),
            f"encoder.{name}_mean.bias": _padded(bias[part], count),
            f"{name}_decoder.weight": _padded(own @ basis.T / deviation, count).T,
            f"{name}_decoder.bias": basis @ offset / deviation,
        }
    return weights


def _padded(rows: np.ndarray, count: int) -> np.ndarray:
    """The rows, and zeros up to `count` of them."""
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]))])
