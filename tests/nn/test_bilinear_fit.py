"""Expressions that depend on the identity: against dense least squares, and on faces made so."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from raising import raises

from facedis_core.data.face_set import TEST, FaceSet
from facedis_core.geometry.ridge import PENALTIES
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model, write_model
from facedis_core.nn.bilinear_fit import Bilinear, TrainingComponents, fit_bilinear
from facedis_core.nn.linear_split import LinearSplit, split_components
from facedis_core.train.training import train

SIZE = 30  # components
STILL = np.zeros((6, SIZE))


class Made:
    """Faces neutral + (B + sum_i z_i B_i) e of 40 people with 8 expressions each.

    Less the mean of those of seed 0.
    """

    def __init__(self, seed: int, dependence: float = 0.3) -> None:
        fixed, rng = np.random.default_rng(0), np.random.default_rng([1, seed])
        directions, _ = np.linalg.qr(fixed.normal(size=(SIZE, SIZE)))
        identity, shown, other = directions[:3], directions[3:7], directions[7:19]
        z = rng.normal(size=(40, 3))
        self.subject = np.repeat(np.arange(40), 8)
        e = rng.normal(size=(320, 4)) * [2.0, 1.6, 1.2, 1.0]
        products = (z[self.subject][:, :, None] * e[:, None]).reshape(320, 12)
        self.neutrals = 3 * z @ identity
        self.rest = dependence * products @ other
        self.faces = self.neutrals[self.subject] + e @ shown + self.rest
        self.mean = Made(0, dependence).mean if seed else self.faces.mean(axis=0)
        self.faces, self.neutrals = self.faces - self.mean, self.neutrals - self.mean


def fitted(made: Made, motions: np.ndarray = STILL, count: int = 4) -> tuple[LinearSplit, Bilinear]:
    given = made.faces, made.subject, made.neutrals
    split = split_components(*given, motions.T @ motions, identity=3, expression=4, trust=1.0)
    return split, fit_bilinear(split, TrainingComponents(*given, motions), count=count, trust=1.0)


def latents(split: LinearSplit, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (
        faces @ split.identity_encoder.T + split.identity_bias,
        faces @ split.expression_encoder.T + split.expression_bias,
    )


def decoded(split: LinearSplit, terms: Bilinear, z: np.ndarray, e: np.ndarray) -> np.ndarray:
    """X_id + X_exp, face by face."""
    return np.array(
        [
            split.identity_mean
            + split.identity_decoder @ one
            + terms.expression_decoder @ shown
            + terms.products @ np.kron(one, terms.factors @ shown)
            for one, shown in zip(z, e, strict=True)
        ]
    )


def error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth, axis=1).mean())


def test_it_finds_the_products_that_the_faces_were_made_of() -> None:
    made, unseen = Made(0), Made(1)
    split, terms = fitted(made)
    z, e = latents(split, unseen.faces)
    linear = z @ split.identity_decoder.T + split.identity_mean + e @ split.expression_decoder.T
    assert error(linear, unseen.faces) > 0.9 * np.linalg.norm(unseen.rest, axis=1).mean()
    assert error(decoded(split, terms, z, e), unseen.faces) < 0.05 * error(linear, unseen.faces)
    assert terms.penalty == PENALTIES[0]


def test_it_is_dense_least_squares_with_a_penalty_of_the_products() -> None:
    made = Made(0)
    made.faces = made.faces + np.random.default_rng(3).normal(0, 0.3, made.faces.shape)
    made.faces -= made.faces.mean(axis=0)
    split, terms = fitted(made, count=2)
    z, e = latents(split, made.faces)
    size = np.linalg.norm(split.identity_decoder, axis=0)
    products = np.array(
        [np.kron(one * size, terms.factors @ shown) for one, shown in zip(z, e, strict=True)]
    )
    free = products - e @ np.linalg.lstsq(e, products, rcond=None)[0]
    weight = np.sqrt(terms.penalty * (free**2).sum() / free.shape[1])
    inputs = np.vstack(
        [np.hstack([e, products]), np.hstack([np.zeros((6, 4)), weight * np.eye(6)])]
    )
    rest = made.faces - z @ split.identity_decoder.T - split.identity_mean
    outputs = np.vstack([rest, np.zeros((6, SIZE))])
    maps = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    np.testing.assert_allclose(terms.expression_decoder, maps[:4].T, atol=1e-7)
    np.testing.assert_allclose(terms.products, maps[4:].T * np.repeat(size, 2), atol=1e-7)


def test_faces_that_do_not_depend_on_the_identity_get_a_large_penalty() -> None:
    made = Made(0, dependence=0.0)
    made.faces = made.faces + np.random.default_rng(3).normal(0, 0.3, made.faces.shape)
    made.faces -= made.faces.mean(axis=0)
    _, terms = fitted(made)
    assert terms.penalty >= 1
    assert np.linalg.norm(terms.products) < 0.2


def test_a_turned_head_has_the_same_rest() -> None:
    """Poses add to the latents, as if every face came in many; here they do."""
    made = Made(0)
    motions = 0.5 * np.random.default_rng(4).normal(size=(6, SIZE))
    split, terms = fitted(made, motions)
    z, e = latents(split, made.faces)
    moved = motions @ split.expression_encoder.T
    rest = made.faces - z @ split.identity_decoder.T - split.identity_mean
    rest -= e @ split.expression_decoder.T
    # a pose to each side, with the mean outer product of a random one
    shifts = np.sqrt(6) * np.concatenate([moved, -moved])
    many = [(z, e + shift) for shift in shifts]
    size = np.linalg.norm(split.identity_decoder, axis=0)
    inputs = np.vstack(
        [
            np.hstack(
                [ee, np.einsum("ni,nj->nij", zz * size, ee @ terms.factors.T).reshape(-1, 12)]
            )
            for zz, ee in many
        ]
    )
    count = inputs.shape[1] - 4
    free = inputs[:, 4:] - inputs[:, :4] @ np.linalg.lstsq(inputs[:, :4], inputs[:, 4:])[0]
    weight = np.sqrt(terms.penalty * (free**2).sum() / count)
    inputs = np.vstack([inputs, np.hstack([np.zeros((count, 4)), weight * np.eye(count)])])
    outputs = np.vstack([np.tile(rest, (12, 1)), np.zeros((count, SIZE))])
    maps = np.linalg.lstsq(inputs, outputs)[0]
    linear = terms.expression_decoder - split.expression_decoder
    np.testing.assert_allclose(linear, maps[:4].T, atol=1e-6)
    np.testing.assert_allclose(terms.products, maps[4:].T * np.repeat(size, 4), atol=1e-6)


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    """Expressions along two directions each, the second by as much as the person's first latent."""
    made = synthetic.face_set(subjects=40, expressions=6, test=10)
    rng = np.random.default_rng(5)
    z = rng.normal(size=(40, 3))
    neutrals = made.neutrals[:1] + np.einsum("sd,dvc->svc", z, rng.normal(0, 2, (3, 36, 3)))
    shown, dependent = rng.normal(0, 1, (2, 6, 36, 3))
    shown[0] = dependent[0] = 0
    subject, expression = made.labels.subject, made.labels.expression
    vertices = neutrals[subject] + shown[expression]
    vertices += 0.5 * z[subject, 0, None, None] * dependent[expression]
    stored = neutrals.astype(np.float32)
    return replace(
        made, vertices=vertices.astype(np.float32), neutrals=stored, neutrals_eval=stored
    )


CHANGES: dict[str, Any] = {"identity": 3, "expression": 5, "pose_degrees": 0, "pose_mm": 0}


@pytest.fixture(scope="module")
def model(faces: FaceSet) -> Model:
    return train(faces, "bilinear", neutrals=True, changes=CHANGES)


def e_rec(model: Model, vertices: np.ndarray) -> float:
    """Mean vertex distance of reconstructions, mm."""
    found = model.decode(model.encode_prepared(vertices))
    return float(np.linalg.norm(found - vertices, axis=-1).mean())


def test_it_rebuilds_unseen_people_better_than_a_linear_model_of_the_same_latents(
    model: Model, faces: FaceSet
) -> None:
    linear = train(faces, "linear", neutrals=True, changes=CHANGES)
    unseen = faces.vertices[faces.rows(TEST)]
    # not 0: some of what depends on the person lies along the directions of the expressions
    assert e_rec(model, unseen) < 0.25 * e_rec(linear, unseen)
    one, other = (each.encode_prepared(unseen) for each in (model, linear))
    np.testing.assert_allclose(one.identity, other.identity, atol=1e-5)
    np.testing.assert_allclose(one.expression, other.expression, atol=1e-5)
    for each in ("full", "identity", "expression"):
        assert np.isfinite(model.decode(one, each)).all()
    np.testing.assert_allclose(
        model.decode(one, "identity"), linear.decode(other, "identity"), atol=1e-4
    )


def test_a_face_without_expression_is_the_identity_face(model: Model, faces: FaceSet) -> None:
    z = model.encode_prepared(faces.vertices[:4])
    still = replace(z, expression=np.zeros_like(z.expression))
    np.testing.assert_array_equal(model.decode(still), model.decode(still, "identity"))
    np.testing.assert_array_equal(model.decode(still, "expression", offsets=True), 0)


def test_the_same_expression_latents_move_people_otherwise(model: Model, faces: FaceSet) -> None:
    z = model.encode_prepared(faces.vertices[:4])
    other = replace(z, identity=z.identity + 1)
    own, theirs = (model.decode(each, "expression", offsets=True) for each in (z, other))
    assert np.abs(own - theirs)[z.expression.any(axis=1)].max() > 0.1
    sums = model.decode(other, offsets=True) - model.decode(other, "identity", offsets=True)
    np.testing.assert_allclose(sums, theirs, atol=1e-4)


def test_numpy_torch_and_the_file_agree(
    model: Model, faces: FaceSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bilinear") / "model.safetensors"
    assert write_model(path, model) == model.id
    stored = load_model(path)
    assert stored.weights["bilinear.products.weight"].dtype == np.float16
    some = faces.vertices[:4]
    with torch.no_grad():
        found = stored.to_torch()(torch.from_numpy(some))
    latents = stored.encode_prepared(some)
    np.testing.assert_allclose(stored.decode(latents), found.reconstruction, atol=1e-3)
    np.testing.assert_allclose(
        stored.decode(latents, "expression", offsets=True), found.expression, atol=1e-3
    )
    np.testing.assert_array_equal(stored.decode(latents), model.decode(latents))


def test_steps_train_it_further_from_the_fit(faces: FaceSet) -> None:
    changes = CHANGES | {"steps": 2, "learning_rate": 1e-4}
    fitted, trained = (
        train(faces, "bilinear", neutrals=True, changes=each).weights for each in (CHANGES, changes)
    )
    for name in ("bilinear.factors.weight", "bilinear.products.weight"):
        assert (fitted[name] != trained[name]).any()


@pytest.mark.parametrize(
    "changes", [{"points": 20}, {"linear_fit": "flame"}, {"pseudo_neutral": "none", "steps": 2}]
)
def test_what_it_cannot_be_joined_with_is_refused(faces: FaceSet, changes: dict[str, Any]) -> None:
    with raises("option-conflict", "bilinear"):
        train(faces, "bilinear", changes=CHANGES | changes)
