import numpy as np
import pytest

from facedis_core.data.latents import Latents, read_latents, write_latents
from facedis_core.pipeline.sample import sample


@pytest.fixture
def known(tmp_path):
    """200 rows of two clusters of expressions, also in `known.npy`; two rows in `people.npy`."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(3, 3))
    identity = rng.normal(size=(200, 3)) @ mix + [1, 2, 3]
    expression = rng.normal(0, 0.1, size=(200, 2)) + np.where(np.arange(200) % 2, 5, -5)[:, None]
    names = [f"face{k}" for k in range(200)]
    rows = Latents(names, ["m"] * 200, identity.astype("f4"), expression.astype("f4"))
    for name, part in (("known", rows), ("people", rows.take([3, 7])), ("one", rows.take([0]))):
        with (tmp_path / f"{name}.npy").open("wb") as stream:
            write_latents(stream, part)
    return rows


def test_moments_are_those_of_the_latents(known):
    drawn = sample(known, 20_000, seed=3)
    for part in ("identity", "expression"):
        given, found = getattr(known, part).astype(float), getattr(drawn, part).astype(float)
        spread = np.abs(np.cov(given.T)).max()
        np.testing.assert_allclose(found.mean(0), given.mean(0), atol=0.03 * np.sqrt(spread))
        np.testing.assert_allclose(np.cov(found.T), np.cov(given.T), atol=0.03 * spread)
    # expressions stay near the clusters; a Gaussian of the same covariance would not
    near = np.abs(np.abs(drawn.expression.mean(axis=1)) - 5) < 3.5
    assert near.mean() > 0.95
    assert set(drawn.models) == {"m"}


def test_temperature_scales_the_distance_from_the_mean(known):
    one, half, none = (sample(known, 10, temperature=t) for t in (1, 0.5, 0))
    for part in ("identity", "expression"):
        mean = getattr(known, part).astype(float).mean(0)
        full = getattr(one, part) - mean
        np.testing.assert_allclose(getattr(half, part) - mean, full / 2, atol=1e-5)
        np.testing.assert_allclose(getattr(none, part), np.tile(mean, (10, 1)), atol=1e-5)


def test_new_expressions_of_given_people(call, known, tmp_path):
    assert call("fd-sample known.npy -n 3 --of people.npy --seed 5 -o new.npy").code == 0
    rows = read_latents(tmp_path / "new.npy")
    assert rows.names == [f"face{k}__sample000{n}" for k in (3, 7) for n in range(3)]
    np.testing.assert_array_equal(rows.identity, known.identity[[3, 3, 3, 7, 7, 7]])
    assert len(np.unique(rows.expression, axis=0)) == 6


def test_a_seed_gives_the_same_bytes(call, known):
    out = [call(f"fd-sample known.npy -n 4 --seed {seed}").out for seed in (1, 1, 2)]
    assert out[0] == out[1] != out[2]


def test_fewer_rows_than_latents(known):
    few = known.take([0, 1])
    drawn = sample(few, 50)
    line = (few.identity[1] - few.identity[0]).astype(float)
    offset = drawn.identity - few.identity.astype(float).mean(0)
    along = offset @ line / (line @ line)
    np.testing.assert_allclose(offset, along[:, None] * line, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ("one.npy", 3, "too-few-faces"),
        ("none.npy", 3, "file-missing"),
        ("known.npy -n 0", 2, "arguments"),
        ("known.npy --temperature -1", 2, "arguments"),
        ("known.npy --temperature nan", 2, "arguments"),
        ("known.npy --of other.npy", 3, "wrong-model"),
        ("known.npy -o new.ply", 2, "output-suffix"),
        ("- --of -", 2, "same-file"),
    ],
)
def test_what_is_refused(call, known, tmp_path, words, code, kind):
    other = Latents(["a"], ["other"], known.identity[:1], known.expression[:1])
    with (tmp_path / "other.npy").open("wb") as stream:
        write_latents(stream, other)
    line = words if "-o" in words.split() else f"{words} -o new.npy"
    result = call(f"fd-sample {line}")
    assert (result.code, result.kind) == (code, kind), result.err
    assert not (tmp_path / "new.npy").exists()
