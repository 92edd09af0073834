"""Weights of the linear network from training faces: components, split, bilinear terms."""

from typing import Final, NamedTuple

import numpy as np

from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.pca import Pca, face_blocks, fit_pca
from facedis_core.model.config import LinearConfig
from facedis_core.nn.augment import add_motions, pose_motions
from facedis_core.nn.autoencoder import InitialData
from facedis_core.nn.bilinear_fit import Bilinear, TrainingComponents, fit_bilinear
from facedis_core.nn.linear_split import LinearSplit, split_components

Weights = dict[str, np.ndarray]

# Relative to the largest variance. What has less is a rounding error, which division by its
# standard deviation would make as large as a face.
_LEAST_VARIANCE: Final = 1e-8


def fit_weights(
    config: LinearConfig, data: InitialData, mean_face: np.ndarray, scale: float
) -> Weights:
    """The weights of a linear network by their names; without neutrals only the basis.

    An encoder that sees all vertices shares the principal components with the decoders. An encoder
    of points has a basis of its own, and both bases span no more than the latents need.

    Args:
        config: with as many components as are to be fitted.
        data: has neutrals where there are points.
        mean_face: (V, 3) mm.
        scale: mm per unit of normalised coordinates.

    Raises:
        InputError: the training faces are all alike.
    """
    dtype = np.float16 if config.half_basis else np.float32
    motions = pose_motions(mean_face.ravel(), data.poses)
    if config.points is None:
        pca = _components(data.vertices, data.rows, motions, config.components)
        basis = pca.basis.astype(dtype)
        pca = Pca(pca.mean, basis.astype(np.float64), pca.variance)
        deviation = np.sqrt(pca.variance)
        weights = {"basis": basis, "deviation": deviation / scale}
        if data.neutrals is not None:
            fitted = _fit_split(pca, data.vertices, data.rows, data.neutrals, motions, config, data)
            weights |= _encoder(fitted.split, deviation) | _decoders(fitted.split, deviation)
            if config.bilinear is not None:
                components = TrainingComponents(
                    fitted.coefficients, fitted.person, fitted.neutrals, fitted.moved
                )
                terms = fit_bilinear(
                    fitted.split, components, count=config.bilinear, trust=data.trust
                )
                weights |= _bilinear(terms, deviation, dtype)
        return weights
    assert data.points is not None and data.neutrals is not None
    points = data.points.numpy()
    faces = np.concatenate(
        [block[:, points].astype(np.float32) for block in face_blocks(data.vertices, data.rows)]
    )
    seen = motions.reshape(len(motions), *mean_face.shape)[:, points]
    seen = seen.reshape(len(motions), 3 * len(points))
    rows = np.arange(len(faces))
    pca = _components(faces, rows, seen, config.encoder_components or 0)
    fitted = _fit_split(pca, faces, rows, data.neutrals[:, points], seen, config, data)
    weights = {"encoder.points": points} | _compact_encoder(fitted, pca.basis, scale, dtype)
    return weights | _compact_decoders(fitted, data, mean_face, motions, scale, dtype)


class _FittedSplit(NamedTuple):
    """A split and the latents that it gives.

    Attributes:
        split: maps from coefficients in mm.
        person: (n,) of each training face, a row of `people`.
        people: (S,) subjects with training faces, ascending.
        coefficients: (n, K) of the training faces.
        neutrals: (S, K) of `people`.
        moved: (6, K), what random poses add to coefficients to first order.
        identity, expression: (n, D) latents of the training faces.
        motion_identity, motion_expression: (6, D), what random poses add to latents.
    """

    split: LinearSplit
    person: np.ndarray
    people: np.ndarray
    coefficients: np.ndarray
    neutrals: np.ndarray
    moved: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    motion_identity: np.ndarray
    motion_expression: np.ndarray


def _components(faces: np.ndarray, rows: np.ndarray, motions: np.ndarray, count: int) -> Pca:
    """The principal components of faces in random poses that are not rounding errors."""
    pca = add_motions(fit_pca(faces, rows, count), motions, count)
    if not len(pca.variance):
        raise InputError(
            "the training faces are all alike; expected faces that differ", ErrorCode.FACES_ALIKE
        )
    used = pca.variance > _LEAST_VARIANCE * pca.variance[0]
    return Pca(pca.mean, pca.basis[used], pca.variance[used])


def _fit_split(
    pca: Pca,
    faces: np.ndarray,
    rows: np.ndarray,
    neutrals: np.ndarray,
    motions: np.ndarray,
    config: LinearConfig,
    data: InitialData,
) -> _FittedSplit:
    """The closed-form split of the components of these faces by neutrals (S, P, 3)."""
    coefficients = np.concatenate([pca.encode(block) for block in face_blocks(faces, rows)])
    coefficients -= coefficients.mean(axis=0)  # a rounded basis
    people, person = np.unique(data.subject, return_inverse=True)
    moved = motions @ pca.basis.T
    of_people = np.concatenate([pca.encode(neutrals[[subject]]) for subject in people])
    split = split_components(
        coefficients,
        person,
        of_people,
        moved.T @ moved,
        identity=config.identity,
        expression=config.expression,
        trust=data.trust,
    )
    return _FittedSplit(
        split,
        person,
        people,
        coefficients,
        of_people,
        moved,
        coefficients @ split.identity_encoder.T + split.identity_bias,
        coefficients @ split.expression_encoder.T + split.expression_bias,
        moved @ split.identity_encoder.T,
        moved @ split.expression_encoder.T,
    )


def _encoder(split: LinearSplit, deviation: np.ndarray) -> Weights:
    """The heads of the encoder, for components in mm of this deviation."""
    return {
        "encoder.identity_mean.weight": split.identity_encoder * deviation,
        "encoder.identity_mean.bias": split.identity_bias,
        "encoder.expression_mean.weight": split.expression_encoder * deviation,
        "encoder.expression_mean.bias": split.expression_bias,
    }


def _decoders(split: LinearSplit, deviation: np.ndarray) -> Weights:
    """The decoders, for components in mm of this deviation."""
    return {
        "identity_decoder.weight": split.identity_decoder / deviation[:, None],
        "identity_decoder.bias": split.identity_mean / deviation,
        "expression_decoder.weight": split.expression_decoder / deviation[:, None],
        "expression_decoder.bias": np.zeros(len(deviation)),
    }


def _bilinear(terms: Bilinear, deviation: np.ndarray, dtype: type[np.floating]) -> Weights:
    """Expressions that depend on the identity, for components in mm of this deviation."""
    return {
        "expression_decoder.weight": terms.expression_decoder / deviation[:, None],
        "bilinear.factors.weight": terms.factors,
        "bilinear.products.weight": (terms.products / deviation[:, None]).astype(dtype),
    }


def _compact_encoder(
    fitted: _FittedSplit, basis: np.ndarray, scale: float, dtype: type[np.floating]
) -> Weights:
    """The encoder on as many components as there are latents, uncorrelated over faces in poses."""
    split = fitted.split
    latents = np.hstack([fitted.identity, fitted.expression])
    moved = np.hstack([fitted.motion_identity, fitted.motion_expression])
    bias = np.concatenate([split.identity_bias, split.expression_bias])
    latents = latents - bias
    values, vectors = np.linalg.eigh(latents.T @ latents / len(latents) + moved.T @ moved)
    used = values > _LEAST_VARIANCE * values[-1]
    root, vectors = np.sqrt(values[used]), vectors[:, used]
    # y = root^-1 vectors^T (z - bias) has unit variances; z = bias + vectors root y
    rows = (
        (vectors / root).T @ np.vstack([split.identity_encoder, split.expression_encoder]) @ basis
    )
    length = np.linalg.norm(rows, axis=1)
    heads = vectors * root
    size = len(split.identity_bias)
    return {
        "encoder.basis": (rows / length[:, None]).astype(dtype),
        "encoder.deviation": 1 / (length * scale),
        "encoder.identity_mean.weight": heads[:size],
        "encoder.identity_mean.bias": split.identity_bias,
        "encoder.expression_mean.weight": heads[size:],
        "encoder.expression_mean.bias": split.expression_bias,
    }


def _compact_decoders(
    fitted: _FittedSplit,
    data: InitialData,
    mean_face: np.ndarray,
    motions: np.ndarray,
    scale: float,
    dtype: type[np.floating],
) -> Weights:
    """Decoders of all vertices by least squares from the latents: neutrals, then what remains."""
    assert data.neutrals is not None
    neutrals = data.neutrals[fitted.people]
    known = np.isfinite(neutrals).all(axis=(1, 2))
    of_known = known[fitted.person]
    faces_of = np.bincount(fitted.person[of_known], minlength=len(fitted.people))
    targets = np.nan_to_num(neutrals.reshape(len(neutrals), -1) - mean_face.ravel())
    mean_offset = faces_of @ targets / faces_of.sum()
    z, centre = fitted.identity, fitted.identity[of_known].mean(axis=0)
    centred = z[of_known] - centre
    by_person = np.zeros((len(fitted.people), z.shape[1]))
    np.add.at(by_person, fitted.person[of_known], centred)
    moved = fitted.motion_identity
    identity = _least_squares(
        centred.T @ centred / len(centred) + moved.T @ moved,
        by_person.T @ (targets - mean_offset) / len(centred),
    )
    start = mean_offset - centre @ identity  # X_id of the latent zero, minus the mean face

    e, count = fitted.expression, len(fitted.expression)
    moments = fitted.motion_expression.T @ (motions - moved @ identity)
    done = 0
    for block in face_blocks(data.vertices, data.rows):
        rows = slice(done, done + len(block))
        offsets = block.reshape(len(block), -1) - mean_face.ravel()
        moments += e[rows].T @ (offsets - start - z[rows] @ identity) / count
        done = rows.stop
    moved = fitted.motion_expression
    expression = _least_squares(e.T @ e / count + moved.T @ moved, moments)

    # orthonormal rows that span both maps and the start
    maps = np.vstack([identity, expression, start])
    values, vectors = np.linalg.eigh(maps @ maps.T)
    used = values > _LEAST_VARIANCE**2 * values[-1]
    root, vectors = np.sqrt(values[used]), vectors[:, used]
    basis = (vectors / root).T @ maps
    size = len(identity)
    return {
        "basis": basis.astype(dtype),
        "deviation": root / scale,
        "identity_decoder.weight": vectors[:size].T,
        "identity_decoder.bias": vectors[-1],
        "expression_decoder.weight": vectors[size:-1].T,
        "expression_decoder.bias": np.zeros(len(root)),
    }


def _least_squares(second: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """The map (D, k) of least squares from second moments (D, D) and (D, k); of least norm."""
    return np.linalg.pinv(second, rcond=1e-10, hermitian=True) @ mixed
