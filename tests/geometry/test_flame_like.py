"""FLAME's linear model against scikit-learn's PCA and a fit by normal equations."""

import numpy as np
import pytest
from scipy.linalg import lstsq
from sklearn.decomposition import PCA

from facedis_core.geometry import flame_like
from facedis_core.geometry import pca as pca_module
from facedis_core.geometry.flame_like import fit_flame_like

PEOPLE, KINDS, VERTICES = 9, 5, 12


@pytest.fixture
def faces():
    """Faces (45, 12, 3) float32 mm, their subjects, neutrals (9, 12, 3)."""
    rng = np.random.default_rng(3)
    neutrals = 100 + rng.normal(0, 5, (PEOPLE, VERTICES, 3))
    offsets = rng.normal(1, 2, (PEOPLE * KINDS, VERTICES, 3))
    subject = np.repeat(np.arange(PEOPLE), KINDS)
    return (neutrals[subject] + offsets).astype(np.float32), subject, neutrals.astype(np.float32)


def slow_fit(vertices, subject, neutrals, identity, expression, x):
    """Reconstruction and identity face of each face x by least squares with rows for the priors."""
    flat = vertices.reshape(len(vertices), -1).astype(float)
    known = neutrals.reshape(len(neutrals), -1).astype(float)
    of_neutrals = PCA(identity, svd_solver="full").fit(known)
    offsets = flat - known[subject]
    of_offsets = PCA(expression, svd_solver="full").fit(offsets)
    residual = 0.0
    for pca, data in ((of_neutrals, known), (of_offsets, offsets)):
        residual += (data - pca.inverse_transform(pca.transform(data))).var(axis=0).mean()
    # scikit-learn divides variances by N - 1
    variance = np.concatenate(
        [
            pca.explained_variance_ * (len(data) - 1) / len(data)
            for pca, data in ((of_neutrals, known), (of_offsets, offsets))
        ]
    )
    basis = np.concatenate([of_neutrals.components_, of_offsets.components_])
    mean = of_neutrals.mean_ + of_offsets.mean_
    rows = np.concatenate([basis.T / np.sqrt(residual), np.diag(variance**-0.5)])
    full, identities = [], []
    for face in x.reshape(len(x), -1).astype(float):
        right = np.concatenate([(face - mean) / np.sqrt(residual), np.zeros(len(basis))])
        z = lstsq(rows, right)[0]
        full.append(mean + z @ basis)
        identities.append(of_neutrals.mean_ + z[:identity] @ basis[:identity])
    return (np.reshape(faces, x.shape) for faces in (full, identities))


@pytest.mark.parametrize("block", [4, 128])
def test_slow_fit(faces, block, monkeypatch):
    monkeypatch.setattr(pca_module, "BLOCK_FACES", block)
    monkeypatch.setattr(pca_module, "BLOCK_VALUES", 100 * block)
    vertices, subject, neutrals = faces
    model = fit_flame_like(vertices, np.arange(45), subject, neutrals, 4, 6)
    assert (len(model.identity), len(model.expression), model.components) == (4, 6, 10)
    x = np.random.default_rng(1).normal(100, 6, (7, VERTICES, 3)).astype(np.float32)
    found = model.split(x)
    full, identity = slow_fit(vertices, subject, neutrals, 4, 6, x)
    np.testing.assert_allclose(found.reconstruction, full, atol=2e-3)
    np.testing.assert_allclose(found.identity, identity, atol=2e-3)
    assert found.identity_latent.shape == (7, 4)
    assert found.expression_latent.dtype == np.float64


def test_means_have_no_coefficients(faces):
    vertices, subject, neutrals = faces
    model = fit_flame_like(vertices, np.arange(45), subject, neutrals, 4, 6)
    mean = (model.mean_neutral + model.mean_offset).reshape(1, VERTICES, 3)
    found = model.split(mean)
    np.testing.assert_allclose(found.identity_latent, 0, atol=1e-9)
    np.testing.assert_allclose(found.identity[0].ravel(), model.mean_neutral, rtol=1e-6)


def test_more_components_than_people(faces):
    vertices, subject, neutrals = faces
    model = fit_flame_like(vertices, np.arange(45), subject, neutrals, 64, 64)
    assert len(model.identity) == PEOPLE - 1
    assert model.components <= VERTICES * 3 * 2
    np.testing.assert_allclose(model.split(vertices).reconstruction, vertices, atol=0.01)


def test_people_without_a_neutral_are_left_out(faces):
    vertices, subject, neutrals = faces
    partial = neutrals.copy()
    partial[6:] = np.nan
    some = fit_flame_like(vertices, np.arange(45), subject, partial, 3, 3)
    only = fit_flame_like(vertices, np.arange(6 * KINDS), subject, neutrals, 3, 3)
    np.testing.assert_array_equal(some.identity, only.identity)
    np.testing.assert_array_equal(some.expression, only.expression)
    nothing = np.full_like(neutrals, np.nan)
    assert fit_flame_like(vertices, np.arange(45), subject, nothing, 3, 3) is None


@pytest.mark.parametrize("rows", [[0], [0, 1, 2], [0, 5, 10]], ids=["face", "person", "neutrals"])
def test_one_person_or_one_expression(faces, rows):
    vertices, subject, neutrals = faces
    vertices = vertices.copy()
    vertices[::KINDS] = neutrals
    model = fit_flame_like(vertices, np.array(rows), subject, neutrals, 3, 3)
    found = model.split(vertices[rows])
    assert np.isfinite(found.identity).all()
    assert len(model.identity) == (2 if rows[1:] == [5, 10] else 0)
    np.testing.assert_allclose(found.reconstruction, vertices[rows], atol=0.01)


def test_offsets_are_of_double_precision(faces):
    vertices, subject, neutrals = faces
    offsets = flame_like.NeutralOffsets(vertices, neutrals, subject)
    assert offsets.shape == vertices.shape
    found = offsets[np.array([3, 44])]
    assert found.dtype == np.float64
    expected = vertices[[3, 44]].astype(float) - neutrals[[0, 8]].astype(float)
    np.testing.assert_array_equal(found, expected)
    part = slice(2, 5)
    np.testing.assert_array_equal(offsets[np.array([3, 44]), part], expected[:, part])
