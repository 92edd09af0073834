"""What latents tell of expressions: against loops, chance, and latents that tell everything."""

import math

import numpy as np
import pytest

from facedis_core.evaluate import expression_probe

PEOPLE, KINDS = 30, 4
SHOWN = np.tile(np.arange(KINDS), PEOPLE)
SUBJECT = np.repeat(np.arange(PEOPLE), KINDS)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def slow_solve(matrix, vector):
    """Gauss and Jordan with pivots, in lists."""
    rows = [[*map(float, row), float(value)] for row, value in zip(matrix, vector, strict=True)]
    for i in range(len(rows)):
        pivot = max(range(i, len(rows)), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(len(rows)):
            if k != i:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[-1] for row in rows]


def slow_fit(faces, labels, classes):
    """The scores of the classes of one more face, by the formulas, one number at a time.

    In the latents as they are: whitening by T is a product with T^-1, and the target t T.
    """
    n, size = len(faces), len(faces[0])
    members = {
        c: [z for z, label in zip(faces, labels, strict=True) if label == c] for c in classes
    }
    mean = {c: [sum(z[i] for z in m) / len(m) for i in range(size)] for c, m in members.items()}
    centre = [sum(z[i] for z in faces) / n for i in range(size)]
    rest = [[z[i] - mean[c][i] for i in range(size)] for z, c in zip(faces, labels, strict=True)]
    every = [[z[i] - centre[i] for i in range(size)] for z in faces]

    def covariance(rows):
        return [[sum(r[i] * r[j] for r in rows) / n for j in range(size)] for i in range(size)]

    total, within = covariance(every), covariance(rest)
    # the columns of T^-1 W
    ratio = [slow_solve(total, [within[i][j] for i in range(size)]) for j in range(size)]
    trace = sum(ratio[j][j] for j in range(size))
    squares = sum(ratio[i][j] * ratio[j][i] for i in range(size) for j in range(size))
    lengths = [sum(a * b for a, b in zip(r, slow_solve(total, r), strict=True)) for r in rest]
    spread = sum(length**2 for length in lengths) / n**2 - squares / n
    apart = squares - trace**2 / size
    share = min(max(spread / apart, expression_probe.LEAST_SHRINKAGE), 1)
    matrix = [
        [(1 - share) * within[i][j] + share * trace / size * total[i][j] for j in range(size)]
        for i in range(size)
    ]

    def score(z, c):
        offset = [m - a for m, a in zip(mean[c], centre, strict=True)]
        weight = slow_solve(matrix, offset)
        moved = [a - b - m / 2 for a, b, m in zip(z, centre, offset, strict=True)]
        prior = math.log(len(members[c]) / n)
        return prior + sum(w * a for w, a in zip(weight, moved, strict=True))

    return score


def slow_accuracy(latents, shown, subject):
    people = sorted(set(subject.tolist()))
    right = 0
    for part in range(min(10, len(people))):
        left_out = set(people[part::10])
        seen = [k for k in range(len(latents)) if subject[k] not in left_out]
        classes = sorted(set(shown[seen].tolist()))
        score = slow_fit(latents[seen].tolist(), shown[seen].tolist(), classes)
        for k in set(range(len(latents))) - set(seen):
            z = latents[k].tolist()
            right += max(classes, key=lambda c: score(z, c)) == shown[k]
    return right / len(latents)


@pytest.mark.parametrize("signal", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("people", [5, 13])
def test_like_loops_over_the_formulas(signal, people):
    rows = people > SUBJECT
    latents = noise(len(SHOWN), 5) @ noise(5, 5, seed=1)
    latents[:, :KINDS] += signal * np.eye(KINDS)[SHOWN]
    got = expression_probe.probe_accuracy(latents[rows], SHOWN[rows], SUBJECT[rows])
    assert got == slow_accuracy(latents[rows], SHOWN[rows], SUBJECT[rows])


def test_scores_like_loops_over_the_formulas():
    latents = noise(40, 4) @ noise(4, 4, seed=1) + 3
    found = expression_probe.fit_discriminant(latents, SHOWN[:40], KINDS)
    score = slow_fit(latents.tolist(), SHOWN[:40].tolist(), range(KINDS))
    scores = latents @ found.weight + found.bias
    slow = [[score(z, c) for c in range(KINDS)] for z in latents.tolist()]
    np.testing.assert_allclose(scores, slow, rtol=1e-9, atol=1e-9)


def test_random_labels_are_told_by_chance():
    latents = noise(len(SHOWN), 8)
    found = [
        expression_probe.probe_accuracy(
            latents, np.random.default_rng(k).permutation(SHOWN), SUBJECT
        )
        for k in range(20)
    ]
    # 20 times 120 faces: three standard deviations
    assert abs(np.mean(found) - 1 / KINDS) < 3 * math.sqrt(0.25 * 0.75 / (20 * len(SHOWN)))


def test_a_frequent_expression_raises_the_chance_level_and_no_more():
    shown = np.where(SHOWN == 1, 0, SHOWN)  # half of all faces
    found = expression_probe.probe_expression(noise(120, 3), noise(120, 3, seed=1), shown, SUBJECT)
    assert found["expression_chance"] == 0.5
    assert found["expression_from_identity_accuracy"] == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e6])
def test_a_leak_is_found_however_small_its_scale(size):
    identity = noise(PEOPLE, 6)[SUBJECT] + 0.001 * noise(len(SHOWN), 6, seed=1)
    clean = expression_probe.probe_expression(identity, identity, SHOWN, SUBJECT)
    assert clean["expression_from_identity_accuracy"] < 0.4
    leaky = np.concatenate([identity, size * np.eye(KINDS)[SHOWN]], axis=1)
    found = expression_probe.probe_expression(leaky, identity, SHOWN, SUBJECT)
    assert found["expression_from_identity_accuracy"] == 1
    assert found["expression_from_expression_accuracy"] < 0.4


def test_a_leak_along_a_direction_that_is_none_of_the_axes():
    mixed = np.concatenate([noise(PEOPLE, 6)[SUBJECT], noise(120, 6, seed=3)], axis=1)
    mixed[:, 6:10] *= 0.05
    mixed[:, 6:10] += 0.3 * np.eye(KINDS)[SHOWN]
    turned = mixed @ np.linalg.qr(noise(12, 12, seed=2))[0]
    assert expression_probe.probe_accuracy(turned, SHOWN, SUBJECT) > 0.9


def test_who_somebody_is_must_not_help():
    # each person's label is a fact about the person: known people would be told, strangers cannot
    label = np.random.default_rng(5).integers(0, 2, PEOPLE)[SUBJECT]
    latents = np.eye(PEOPLE)[SUBJECT] + 1e-3 * noise(len(SHOWN), PEOPLE)
    assert expression_probe.probe_accuracy(latents, label, SUBJECT) < 0.75


@pytest.mark.parametrize("value", [0.0, 0.1, -3e5])
def test_latents_that_are_the_same_for_everybody_tell_nothing(value):
    latents = np.full((len(SHOWN), 4), value, np.float32)
    found = expression_probe.probe_expression(latents, latents, SHOWN, SUBJECT)
    assert found["expression_from_identity_accuracy"] == found["expression_chance"] == 0.25


def test_twins_among_the_latents_and_more_latents_than_faces():
    latents = np.tile(noise(24, 3), 20)  # (24, 60), of rank 3
    with np.errstate(all="raise"):
        found = expression_probe.probe_accuracy(latents, SHOWN[:24], SUBJECT[:24])
    assert 0 <= found <= 1


def test_expressions_that_few_show_do_not_count():
    few = SHOWN.copy()
    few[SHOWN == 3] = np.where(SUBJECT[SHOWN == 3] < 4, 3, 2)
    latents = np.eye(KINDS)[few] + 0.01 * noise(len(few), KINDS)
    found = expression_probe.probe_expression(latents, latents, few, SUBJECT)
    assert found["expression_faces"] == len(few) - 4
    assert found["expression_chance"] == pytest.approx(56 / 116)
    rows = SUBJECT < 4
    assert not expression_probe.probe_expression(
        latents[rows], latents[rows], few[rows], SUBJECT[rows]
    )
    rows = SHOWN == 1
    assert not expression_probe.probe_expression(
        latents[rows], latents[rows], few[rows], SUBJECT[rows]
    )


def test_one_person_many_times_is_one_person():
    latents = noise(len(SHOWN), 3)
    assert not expression_probe.probe_expression(latents, latents, SHOWN, SUBJECT % 4)
    assert expression_probe.probe_expression(latents, latents, SHOWN, SUBJECT % 5)


@pytest.mark.parametrize("dimensions", [6, 40])
def test_no_map_of_the_latents_changes_what_is_told(dimensions):
    rng = np.random.default_rng(3)
    latents = noise(PEOPLE, dimensions)[SUBJECT] + 0.2 * noise(len(SHOWN), dimensions, seed=1)
    latents[:, :KINDS] += 0.15 * np.eye(KINDS)[SHOWN]
    told = expression_probe.probe_accuracy(latents, SHOWN, SUBJECT)
    for turn in (
        np.linalg.qr(noise(dimensions, dimensions, seed=2))[0],
        noise(dimensions, dimensions, seed=4),
        np.diag(10.0 ** rng.uniform(-3, 3, dimensions)),
    ):
        moved = latents @ turn + rng.normal(size=dimensions)
        assert expression_probe.probe_accuracy(moved, SHOWN, SUBJECT) == pytest.approx(
            told, abs=0.01
        )


def test_shrinkage_of_what_is_round_and_what_is_not():
    round_ = noise(1000, 5)
    long = round_ * [1, 1, 1, 1, 100]
    assert expression_probe.shrinkage(round_) > 0.5
    assert expression_probe.shrinkage(long) < 0.01
    assert expression_probe.shrinkage(round_[:, :1]) == 1
    assert expression_probe.shrinkage(np.zeros((10, 0))) == 1
    assert (
        expression_probe.shrinkage(np.repeat(round_[:, :1], 3, axis=1))
        >= expression_probe.LEAST_SHRINKAGE
    )
