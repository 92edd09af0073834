import numpy as np
import pytest
from test_latents import ID, OTHER, latents

from facedis_core.errors import InputError, UsageError
from facedis_core.pipeline.combine import transfer


def check(combined, identity, expression, pairs):
    assert combined.names == [f"{identity.names[i]}__{expression.names[j]}" for i, j in pairs]
    for row, (i, j) in enumerate(pairs):
        np.testing.assert_array_equal(combined.identity[row], identity.identity[i])
        np.testing.assert_array_equal(combined.expression[row], expression.expression[j])


@pytest.mark.parametrize(
    ("n", "m", "pairs"),
    [
        (1, 1, [(0, 0)]),
        (1, 3, [(0, 0), (0, 1), (0, 2)]),
        (3, 1, [(0, 0), (1, 0), (2, 0)]),
        (3, 3, [(0, 0), (1, 1), (2, 2)]),
    ],
)
def test_rows_pair_up(n, m, pairs):
    identity, expression = latents("abc"[:n]), latents("xyz"[:m], seed=1)
    check(transfer(identity, expression), identity, expression, pairs)


def test_all_pairs():
    identity, expression = latents("ab"), latents("xyz", seed=1)
    pairs = [(i, j) for i in range(2) for j in range(3)]
    combined = transfer(identity, expression, all_pairs=True)
    check(combined, identity, expression, pairs)


def test_other_counts_are_refused():
    with pytest.raises(UsageError, match="identity has 2 rows and expression more"):
        transfer(latents("ab"), latents("xyz"))


def test_scale_multiplies_the_expression_only():
    identity, expression = latents("a"), latents("x", seed=1)
    combined = transfer(identity, expression, scale=1.5)
    np.testing.assert_array_equal(combined.identity, identity.identity)
    np.testing.assert_allclose(combined.expression, 1.5 * expression.expression)


def test_scale_must_be_finite():
    with pytest.raises(UsageError, match="nan"):
        transfer(latents("a"), latents("x"), scale=float("nan"))


def test_two_models_do_not_mix():
    with pytest.raises(InputError, match=f"{ID}.*{OTHER}"):
        transfer(latents("ab"), latents("xy", model=OTHER))


def test_an_unknown_model_takes_the_known_one():
    assert transfer(latents("a", model=""), latents("x")).models == [ID]
    assert transfer(latents("a"), latents("x", model="")).models == [ID]
    assert transfer(latents("a", model=""), latents("x", model="")).models == [""]


def test_a_scale_that_overflows_is_refused():
    with pytest.raises(UsageError, match="not finite"):
        transfer(latents("a"), latents("x"), scale=1e300)
