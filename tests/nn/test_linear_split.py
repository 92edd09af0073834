"""The closed-form split, on faces made of known parts."""

from typing import NamedTuple

import numpy as np

from facedis_core.geometry.ridge import PENALTIES
from facedis_core.nn.linear_split import LinearSplit, choose_penalty, split_components

SIZE = 20  # number of components
STILL = np.zeros((SIZE, SIZE))


class Faces(NamedTuple):
    """Coefficients (n, SIZE) of faces = neutral + offset, their subjects (n,), neutrals (S, SIZE).

    `mean` has been subtracted.
    """

    coefficients: np.ndarray
    subject: np.ndarray
    neutrals: np.ndarray
    mean: np.ndarray


def faces(people: int = 60, seed: int = 0, noise: float = 0.0) -> Faces:
    """Identities along 6 directions, expressions along 4 that are not orthogonal to them.

    Less the mean of the faces of seed 0.
    """
    fixed = np.random.default_rng(0)
    identity, expression = fixed.normal(size=(6, SIZE)), fixed.normal(size=(4, SIZE))
    rng = np.random.default_rng([1, seed])
    neutrals = 2 * rng.normal(size=(people, 6)) @ identity
    subject = np.repeat(np.arange(people), 8)
    made = neutrals[subject] + np.abs(rng.normal(size=(len(subject), 4))) @ expression
    made += noise * rng.normal(size=made.shape)
    mean = made.mean(axis=0) if seed == 0 else faces().mean
    return Faces(made - mean, subject, neutrals - mean, mean)


def split(given: Faces, identity: int = 6, expression: int = 4, trust: float = 1.0) -> LinearSplit:
    return split_components(
        *given[:3], STILL, identity=identity, expression=expression, trust=trust
    )


def predict(found: LinearSplit, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Identity faces and reconstructions."""
    z = coefficients @ found.identity_encoder.T + found.identity_bias
    e = coefficients @ found.expression_encoder.T + found.expression_bias
    identity = z @ found.identity_decoder.T + found.identity_mean
    return identity, identity + e @ found.expression_decoder.T


def test_unseen_people_are_split_into_their_neutral_and_the_rest() -> None:
    found = split(faces())
    unseen = faces(people=5, seed=1)
    identity, reconstruction = predict(found, unseen.coefficients)
    np.testing.assert_allclose(identity, unseen.neutrals[unseen.subject], atol=1e-3)
    np.testing.assert_allclose(reconstruction, unseen.coefficients, atol=1e-3)


def test_scales_of_latents() -> None:
    given = faces()
    found = split(given)
    z = given.coefficients @ found.identity_encoder.T + found.identity_bias
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(z.std(axis=0), 1)
    lengths = np.linalg.norm(found.expression_decoder, axis=0)
    np.testing.assert_allclose(lengths, lengths[0])
    gram = found.expression_decoder.T @ found.expression_decoder
    np.testing.assert_allclose(gram, lengths[0] ** 2 * np.eye(4), atol=1e-9)


def test_latents_beyond_what_the_faces_span_are_zero() -> None:
    given = faces(people=4)
    found = split(given, identity=9, expression=7)
    z = given.coefficients @ found.identity_encoder.T + found.identity_bias
    e = given.coefficients @ found.expression_encoder.T + found.expression_bias
    assert z.shape == (32, 9)
    assert (z[:, 3:] == 0).all()
    assert (e[:, 4:] == 0).all()
    assert (z.std(axis=0)[:3] > 0.9).all()
    assert (found.identity_decoder[:, 3:] == 0).all()


def test_people_without_a_neutral_count_for_expressions_only() -> None:
    given = faces(people=60)
    half = given.neutrals.copy()
    half[::2] = np.nan
    odd = given.subject % 2 == 1
    found = split(given._replace(neutrals=half))
    identity, _ = predict(found, given.coefficients)
    np.testing.assert_allclose(identity, given.neutrals[given.subject], atol=1e-2)
    z = given.coefficients[odd] @ found.identity_encoder.T + found.identity_bias
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-9)


def test_trust_draws_identities_to_the_neutral_and_away_from_the_reconstruction() -> None:
    given = faces(noise=0.3)
    errors = []
    for trust in (0.01, 1.0, 100.0):
        identity, reconstruction = predict(
            split(given, identity=4, trust=trust), given.coefficients
        )
        errors.append(
            (
                np.linalg.norm(reconstruction - given.coefficients),
                np.linalg.norm(identity - given.neutrals[given.subject]),
            )
        )
    rebuilt, neutral = np.array(errors).T
    assert (np.diff(rebuilt) > 0).all()
    assert (np.diff(neutral) < 0).all()


def test_poses_are_no_part_of_the_identity() -> None:
    given = faces()
    motion = 3 * np.random.default_rng(3).normal(size=SIZE)
    moments = np.outer(motion, motion)
    sizes = {"identity": 6, "expression": 5, "trust": 1.0}
    still, posed = (split_components(*given[:3], each, **sizes) for each in (STILL, moments))
    (before, _), (after, rebuilt) = (
        (predict(each, given.coefficients + motion)) for each in (still, posed)
    )
    truth = given.neutrals[given.subject]
    assert 20 * np.linalg.norm(after - truth) < np.linalg.norm(before - truth)
    np.testing.assert_allclose(rebuilt, given.coefficients + motion, atol=0.05)


def test_the_penalty_grows_with_the_noise_and_is_the_best_that_a_plain_loop_finds() -> None:
    chosen = []
    for noise in (0.0, 1.0, 10.0):
        given = faces(people=5, noise=noise)
        target = (given.neutrals - given.neutrals.mean(axis=0))[given.subject]
        chosen.append(choose_penalty(given.coefficients, given.subject, target, STILL))
        errors = []
        for penalty in PENALTIES:  # five people: each is a fold
            missed = 0.0
            for person in range(5):
                x, y = (a[given.subject != person] for a in (given.coefficients, target))
                centre = x.mean(axis=0)
                x = x - centre
                second = x.T @ x / len(x)
                ridge = second + penalty * np.trace(second) / SIZE * np.eye(SIZE)
                prediction = np.linalg.solve(ridge, x.T @ (y - y.mean(axis=0)) / len(x))
                x, expected = (a[given.subject == person] for a in (given.coefficients, target))
                found = (x - centre) @ prediction + y.mean(axis=0)
                missed += np.linalg.norm(found - expected, axis=1).sum()
            errors.append(missed)
        within = np.array(errors) <= 1.2 * min(errors)
        assert chosen[-1] == PENALTIES[int(np.argmax(within))]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]


def test_one_person_has_the_mean_identity() -> None:
    found = split(faces(people=1), identity=3)
    identity, _ = predict(found, faces(people=1).coefficients)
    np.testing.assert_allclose(identity, np.repeat(faces(people=1).neutrals, 8, axis=0), atol=1e-9)
