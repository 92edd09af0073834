"""PCA of faces, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from facedis_core.geometry import pca as pca_module
from facedis_core.geometry.pca import fit_pca


@pytest.fixture
def faces():
    """90 faces (V = 40) with a falling spectrum around a mean far from zero, float32 mm."""
    rng = np.random.default_rng(1)
    scales = 20 * 0.7 ** np.arange(12)
    flat = (rng.normal(size=(90, 12)) * scales) @ rng.normal(size=(12, 120))
    flat += 100 + rng.normal(0, 0.01, flat.shape)
    return flat.reshape(90, 40, 3).astype(np.float32)


def oracle(faces, components):
    flat = faces.reshape(len(faces), -1).astype(np.float64)
    return PCA(components, svd_solver="full").fit(flat)


@pytest.fixture(params=["gram", "randomized"])
def fitted_by(request, monkeypatch):
    """Both ways, with several blocks, the last one short."""
    monkeypatch.setattr(pca_module, "GRAM_FACES", 1000 if request.param == "gram" else 0)
    monkeypatch.setattr(pca_module, "BLOCK_FACES", 17)
    monkeypatch.setattr(pca_module, "BLOCK_VALUES", 1000)


@pytest.mark.parametrize("components", [1, 5, 10])
@pytest.mark.usefixtures("fitted_by")
def test_of_the_chosen_rows(faces, components):
    rows = np.arange(0, 90, 2)
    pca, expected = fit_pca(faces, rows, components), oracle(faces[rows], components)
    np.testing.assert_allclose(pca.mean, expected.mean_, rtol=1e-12)
    variance = expected.explained_variance_ * (len(rows) - 1) / len(rows)
    np.testing.assert_allclose(pca.variance, variance, rtol=1e-6)
    np.testing.assert_allclose(pca.basis @ pca.basis.T, np.eye(components), atol=1e-10)
    cosines = np.abs(np.sum(pca.basis * expected.components_, axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    flat = faces.reshape(90, -1)
    reconstructed = expected.inverse_transform(expected.transform(flat)).reshape(faces.shape)
    np.testing.assert_allclose(pca.decode(pca.encode(faces)), reconstructed, atol=1e-2)


def test_noise_without_gaps_in_its_spectrum():
    """The hardest case for power iterations."""
    faces = np.random.default_rng(0).normal(0, 1, (300, 70, 3)).astype(np.float32)
    pca = fit_pca(faces, np.arange(300), 20)
    best = oracle(faces, 20).explained_variance_.sum() * 299 / 300
    assert best * (1 - 1e-4) < pca.variance.sum() <= best * (1 + 1e-9)


@pytest.mark.usefixtures("fitted_by")
def test_more_components_than_the_faces_span(faces):
    pca = fit_pca(faces, np.arange(4), 50)
    assert len(pca.basis) == 3
    np.testing.assert_allclose(pca.decode(pca.encode(faces[:4])), faces[:4], atol=1e-4)


@pytest.mark.usefixtures("fitted_by")
def test_equal_faces_have_no_components(faces):
    pca = fit_pca(np.repeat(faces[:1], 5, axis=0), np.arange(5), 3)
    assert len(pca.basis) == 0
    np.testing.assert_allclose(pca.decode(pca.encode(faces[:1])), faces[:1])


@pytest.mark.usefixtures("fitted_by")
def test_components_of_little_variance():
    """Standard deviations from 1 to 1e-5, around a mean of 1000."""
    rng = np.random.default_rng(4)
    sides = [np.linalg.qr(rng.normal(size=(size, 6)))[0] for size in (60, 150)]
    flat = 1000 + sides[0] * 10.0 ** -np.arange(6) @ sides[1].T
    pca = fit_pca(flat.reshape(60, 50, 3), np.arange(60), 6)
    np.testing.assert_allclose(pca.basis @ pca.basis.T, np.eye(6), atol=1e-12)
    centred = flat - flat.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)[:6]
    np.testing.assert_allclose(np.sqrt(60 * pca.variance), values, rtol=1e-3)
    left_over = centred - centred @ pca.basis.T @ pca.basis
    assert np.linalg.norm(left_over) < 1e-7


@pytest.mark.usefixtures("fitted_by")
def test_same_seed_same_bytes(faces):
    one, two = (fit_pca(faces, np.arange(90), 8) for _ in range(2))
    assert one.basis.tobytes() == two.basis.tobytes()
