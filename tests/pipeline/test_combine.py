"""Rows that meet and what is made of them, against the plain loops they stand for."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raising import raises
from synthetic import MODEL_ID, OTHER_ID, latents

from facedis_core.data.latents import Latents, concatenate
from facedis_core.pipeline.combine import PeekableLatents, interpolate, pair_rows, transfer


def cut(rows: Latents, sizes: list[int]) -> list[Latents]:
    """The rows in blocks of these sizes, over and over."""
    blocks, start = [], 0
    for number in count():
        if start >= len(rows):
            return blocks
        size = sizes[number % len(sizes)]
        blocks.append(rows.take(slice(start, start + size)))
        start += size
    return blocks


def slow_pairs(n: int, m: int, all_pairs: bool) -> list[tuple[int, int]]:
    if all_pairs:
        return [(i, j) for i in range(n) for j in range(m)]
    return [(0 if n == 1 else k, 0 if m == 1 else k) for k in range(max(n, m))]


sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@settings(max_examples=100)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 9),
    ones=sizes,
    others=sizes,
    all_pairs=st.booleans(),
    awaited=st.tuples(st.booleans(), st.booleans()),
)
def test_whatever_the_blocks_the_pairs_are_those_of_plain_loops(
    n, m, ones, others, all_pairs, awaited
):
    first = latents([f"a{i}" for i in range(n)])
    second = latents([f"b{j}" for j in range(m)], seed=1)
    met = pair_rows(
        PeekableLatents(iter(cut(first, ones)), "first", may_wait=awaited[0]),
        PeekableLatents(iter(cut(second, others)), "second", may_wait=awaited[1]),
        all_pairs=all_pairs,
    )
    if n != m and 1 not in (n, m) and not all_pairs:
        with raises("row-count"):
            list(met)
        return
    found = list(met)
    left, right = (concatenate(side) for side in zip(*found, strict=True))
    pairs = slow_pairs(n, m, all_pairs)
    assert list(zip(left.names, right.names, strict=True)) == [(f"a{i}", f"b{j}") for i, j in pairs]
    combined = transfer(first, second, all_pairs=all_pairs)
    assert combined.names == [f"a{i}__b{j}" for i, j in pairs]
    for identity, expression in (
        (left.identity, right.expression),
        (combined.identity, combined.expression),
    ):
        np.testing.assert_array_equal(identity, first.identity[[i for i, _ in pairs]])
        np.testing.assert_array_equal(expression, second.expression[[j for _, j in pairs]])


def endless(asked: list[int]):
    for number in count():
        asked.append(number)
        yield latents([f"row{number}"])


@pytest.mark.parametrize("side", [0, 1])
def test_one_row_meets_each_of_an_endless_stream_as_it_comes(side):
    asked: list[int] = []
    rows = [
        PeekableLatents(iter([latents(["one"])]), "file"),
        PeekableLatents(endless(asked), "pipe", may_wait=True),
    ]
    met = pair_rows(*(rows if side else reversed(rows)))
    for number in range(5):
        names = [block.names for block in next(met)]
        assert names[side] == [f"row{number}"]
        assert len(asked) == number + 1


def test_of_two_that_do_not_pair_up_the_shorter_is_named():
    with raises("row-count", "identity has 2 rows"):
        transfer(latents("ab"), latents("xyz"))


def test_scale_multiplies_the_expression_only():
    identity, expression = latents("a"), latents("x", seed=1)
    combined = transfer(identity, expression, scale=1.5)
    np.testing.assert_array_equal(combined.identity, identity.identity)
    np.testing.assert_allclose(combined.expression, 1.5 * expression.expression)


@pytest.mark.parametrize("scale", [float("nan"), 1e300])
def test_scaled_latents_must_be_finite(scale):
    with raises("option-value", "scale"):
        transfer(latents("a"), latents("x"), scale=scale)


def test_two_models_do_not_mix():
    with raises("wrong-model", f"{MODEL_ID}.*{OTHER_ID}"):
        transfer(latents("ab"), latents("xy", model=OTHER_ID))


def test_latents_of_other_sizes_are_of_another_model():
    """Also where a model is not known, or two have one id."""
    for other in (latents("xy", model="", identity=4), latents("xy", expression=1)):
        for combine in (transfer, interpolate):
            with raises("latent-size", r"'a' have the sizes \(3, 2\), those of 'x'"):
                combine(latents("ab"), other)


@pytest.mark.parametrize("models", [("", MODEL_ID), (MODEL_ID, ""), ("", "")])
def test_an_unknown_model_takes_the_known_one(models):
    one, other = models
    assert transfer(latents("a", model=one), latents("x", model=other)).models == [one or other]
