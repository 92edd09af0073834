"""Identity read off expression latents, against a slow twin."""

import numpy as np
import pytest

from facedis_core.evaluate import identity_probe
from facedis_core.evaluate.identity_probe import probe_identity

SUBJECT = np.repeat(np.arange(6), 4)
EXPRESSION = np.tile(np.arange(4), 6)


def slow(latents, expression, subject):
    """Hit and chance of each face by trying all others."""
    hits, chances = [], []
    for z, kind, person in zip(latents, expression, subject, strict=True):
        others = [
            (float(np.linalg.norm(z - latents[i])), subject[i] == person)
            for i in range(len(latents))
            if expression[i] != kind
        ]
        own = [distance for distance, same in others if same]
        rivals = [distance for distance, same in others if not same]
        known = own and rivals
        hits.append(min(own) < min(rivals) if known else np.nan)
        chances.append(len(own) / len(others) if known else np.nan)
    return hits, chances


@pytest.mark.parametrize("leak", [0.0, 1.0])
@pytest.mark.parametrize("block", [5, 256])
def test_like_trying_all(monkeypatch, leak, block):
    monkeypatch.setattr(identity_probe, "_BLOCK", block)
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(24, 3)) + leak * rng.normal(size=(6, 3))[SUBJECT] + 50
    expression = EXPRESSION.copy()
    expression[:3] = 9  # one person shows an expression three times
    subject = SUBJECT.copy()
    subject[-1] = 17  # one face of a stranger, who has no other expression
    found = probe_identity(latents, expression, subject)
    hits, chance = slow(latents, expression, subject)
    np.testing.assert_array_equal(found.hits, np.array(hits, float))
    np.testing.assert_allclose(found.chance, np.array(chance, float))
    assert np.isnan(found.hits[-1])


def test_people_in_the_latents_are_found_and_their_absence_is_chance():
    rng = np.random.default_rng(1)
    subject, expression = np.repeat(np.arange(40), 5), np.tile(np.arange(5), 40)
    people = 10 * rng.normal(size=(40, 8))[subject]
    assert probe_identity(people + rng.normal(size=(200, 8)), expression, subject).hits.all()
    blind = probe_identity(rng.normal(size=(200, 8)), expression, subject)
    assert blind.chance == pytest.approx(4 / 160)
    assert blind.hits.mean() < 0.08


@pytest.mark.parametrize("value", [0.0, 0.1, -3e5])
def test_equal_latents_are_all_missed(value):
    assert not probe_identity(np.full((24, 4), value, np.float32), EXPRESSION, SUBJECT).hits.any()


def test_one_person_or_one_expression_tells_nothing():
    latents = np.random.default_rng(2).normal(size=(24, 2))
    assert np.isnan(probe_identity(latents, EXPRESSION, SUBJECT * 0).hits).all()
    assert np.isnan(probe_identity(latents, EXPRESSION * 0, SUBJECT).hits).all()
