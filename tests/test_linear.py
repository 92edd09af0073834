"""PCA and ridge regression against plain dense linear algebra."""

import numpy as np
import pytest

from facedis_core.evaluate import baselines
from facedis_core.geometry import pca as pca_module


def low_rank_faces(rng, count=90, vertices=40, rank=12, noise=0.01):
    """Faces of a falling spectrum, around a mean far from zero, float32 (N, V, 3) mm."""
    scales = 20 * 0.7 ** np.arange(rank)
    flat = (rng.normal(size=(count, rank)) * scales) @ rng.normal(size=(rank, 3 * vertices))
    flat += 100 + rng.normal(0, noise, flat.shape)
    return flat.reshape(count, vertices, 3).astype(np.float32)


@pytest.fixture
def faces():
    return low_rank_faces(np.random.default_rng(1))


def plain_svd(faces):
    flat = faces.reshape(len(faces), -1).astype(np.float64)
    return flat.mean(0), *np.linalg.svd(flat - flat.mean(0), full_matrices=False)[1:]


@pytest.mark.parametrize("components", [1, 5, 10])
def test_pca_is_the_svd_of_the_chosen_rows(faces, components, monkeypatch):
    monkeypatch.setattr(pca_module, "BLOCK_FACES", 17)  # several blocks, the last one short
    rows = np.arange(0, 90, 2)
    pca = pca_module.fit_pca(faces, rows, components)
    mean, singular, directions = plain_svd(faces[rows])
    np.testing.assert_allclose(pca.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(pca.variance, singular[:components] ** 2 / len(rows), rtol=1e-6)
    np.testing.assert_allclose(pca.basis @ pca.basis.T, np.eye(components), atol=1e-10)
    overlap = np.abs(np.sum(pca.basis * directions[:components], axis=1))
    np.testing.assert_allclose(overlap, 1, atol=1e-5)


def test_pca_of_noise_still_captures_what_the_svd_does():
    # no gaps in the spectrum: the hardest case for power iterations
    faces = np.random.default_rng(0).normal(0, 1, (300, 70, 3)).astype(np.float32)
    pca = pca_module.fit_pca(faces, np.arange(300), 20)
    best = (plain_svd(faces)[1][:20] ** 2).sum() / 300
    assert best * (1 - 1e-4) < pca.variance.sum() <= best * (1 + 1e-9)


def test_more_components_than_the_faces_span(faces):
    pca = pca_module.fit_pca(faces, np.arange(4), 50)
    assert len(pca.basis) == 3
    np.testing.assert_allclose(pca.decode(pca.encode(faces[:4])), faces[:4], atol=1e-4)


def test_equal_faces_have_no_components(faces):
    pca = pca_module.fit_pca(np.repeat(faces[:1], 5, axis=0), np.arange(5), 3)
    assert len(pca.basis) == 0
    np.testing.assert_allclose(pca.decode(pca.encode(faces[:1])), faces[:1])


def test_same_seed_same_bytes(faces):
    one, two = (pca_module.fit_pca(faces, np.arange(90), 8) for _ in range(2))
    assert one.basis.tobytes() == two.basis.tobytes()


def test_ridge_is_the_closed_form(faces, monkeypatch):
    monkeypatch.setattr(pca_module, "BLOCK_FACES", 4)
    monkeypatch.setattr(baselines, "BLOCK_FACES", 4)
    rng = np.random.default_rng(2)
    subject = np.sort(rng.integers(0, 10, 90)) * 3 + 1  # labels with gaps
    targets = {person: rng.normal(0, 5, (40, 3)) for person in np.unique(subject)}
    pca = pca_module.fit_pca(faces, np.arange(90), 12)
    x = pca.encode(faces)
    y = np.stack([targets[person].ravel() for person in subject])
    for ridge in baselines.fit_ridges(x, subject, targets.__getitem__, pca, [6, 12]):
        k = len(ridge.weight)
        inputs = x[:, :k] - x[:, :k].mean(0)
        gram = inputs.T @ inputs
        gram += ridge.penalty * np.trace(gram) / k * np.eye(k)
        weight = np.linalg.inv(gram) @ inputs.T @ (y - y.mean(0))
        np.testing.assert_allclose(ridge.weight, weight, rtol=1e-6, atol=1e-9)
        expected = (inputs @ weight + y.mean(0)).reshape(-1, 40, 3)
        np.testing.assert_allclose(ridge.predict(x), expected, atol=1e-4)


def test_subjects_without_target_are_left_out(faces):
    subject = np.repeat(np.arange(9), 10)
    pca = pca_module.fit_pca(faces, np.arange(90), 6)
    x = pca.encode(faces)

    def target(person):
        return faces[person] if person < 6 else np.full((40, 3), np.nan)

    (some,) = baselines.fit_ridges(x, subject, target, pca, [6])
    (only,) = baselines.fit_ridges(x[:60], subject[:60], target, pca, [6])
    np.testing.assert_allclose(some.weight, only.weight)
    nobody = baselines.fit_ridges(x, subject, lambda person: np.full((40, 3), np.nan), pca, [6])
    assert nobody == []


def test_penalty_leaves_whole_subjects_out():
    """Within a subject all rows agree, so rows as folds would choose the smallest penalty."""
    rng = np.random.default_rng(4)
    group = np.repeat(np.arange(12), 20)
    x = rng.normal(size=(12, 10))[group] + rng.normal(0, 0.01, (240, 10))
    y = rng.normal(size=(12, 3))[group]  # nothing to learn from x
    assert baselines.choose_penalty(x, y, group) == max(baselines.PENALTIES)
    weight = rng.normal(size=(10, 3))
    assert baselines.choose_penalty(x, x @ weight, group) == min(baselines.PENALTIES)


def test_one_subject_gets_the_default_penalty():
    x = np.random.default_rng(0).normal(size=(5, 2))
    assert baselines.choose_penalty(x, x, np.zeros(5, int)) == baselines.DEFAULT_PENALTY
