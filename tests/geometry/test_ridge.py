"""Ridge regressions against scikit-learn's, and errors against a plain loop over folds."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from facedis_core.geometry.ridge import PENALTIES, held_out_errors, ridge_maps


def relative(penalty: float, x: np.ndarray) -> float:
    """The penalty of scikit-learn's regression on these inputs."""
    return penalty * len(x) * x.var(axis=0).mean()


@pytest.fixture
def regression() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (N, 8), outputs (N, 4) that depend on them, and folds (N,) with gaps."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(30, 8)) * 3.0 ** -np.arange(8) + 7
    y = x @ rng.normal(size=(8, 4)) + rng.normal(0, 0.3, (len(x), 4))
    return x, y, 3 * np.repeat(np.arange(5), 6) + 1


def test_maps(regression: tuple[np.ndarray, ...]) -> None:
    x, y, _ = regression
    centred = x - x.mean(axis=0)
    moments = (centred.T @ each / len(x) for each in (centred, y - y.mean(axis=0)))
    for penalty, found in zip(PENALTIES, ridge_maps(*moments, PENALTIES), strict=True):
        expected = Ridge(relative(penalty, x)).fit(x, y).coef_.T
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_inputs_that_do_not_vary_predict_nothing() -> None:
    (found,) = ridge_maps(np.zeros((3, 3)), np.zeros((3, 2)), [0.1])
    np.testing.assert_array_equal(found, np.zeros((3, 2)))


def test_errors_are_those_of_a_plain_loop_over_folds(regression: tuple[np.ndarray, ...]) -> None:
    x, y, fold = regression
    errors = held_out_errors(x, y, fold)
    for penalty, found in zip(PENALTIES, errors, strict=True):
        for number in np.unique(fold):
            train, test = fold != number, fold == number
            model = Ridge(relative(penalty, x[train])).fit(x[train], y[train])
            expected = np.linalg.norm(model.predict(x[test]) - y[test], axis=1)
            np.testing.assert_allclose(found[test], expected, rtol=1e-6)


def test_moments_count_as_motions_of_the_inputs(regression: tuple[np.ndarray, ...]) -> None:
    x, y, fold = regression
    motion = 3 * np.random.default_rng(7).normal(size=8)
    found = held_out_errors(x, y, fold, np.outer(motion, motion))
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        moved = np.concatenate([x[train] + motion, x[train] - motion])
        model = Ridge(relative(PENALTIES[0], moved)).fit(moved, np.tile(y[train], (2, 1)))
        expected = np.linalg.norm(model.predict(x[test]) - y[test], axis=1)
        np.testing.assert_allclose(found[0, test], expected, rtol=1e-6)
