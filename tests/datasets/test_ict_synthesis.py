"""Synthetic people of the open benchmark, its variations, and their faces against a slow twin."""

import pickle

import ict_twin
import numpy as np
import pytest
import trees
from prepared import prepare
from raising import raises

from facedis_core.data.face_set import TEST
from facedis_core.datasets.ict import load_ict_faces, read_generic
from facedis_core.datasets.ict_synthesis import (
    IDENTITY_MODES,
    PLAIN,
    VARIATIONS,
    Subject,
    draw_activations,
    draw_subject,
    expression_table,
)
from facedis_core.datasets.protocols import (
    MESH_STREAM,
    MOTION_STREAM,
    SECOND_STREAM,
    SUBJECT_STREAM,
    random_stream,
)
from facedis_core.datasets.source import SOURCES, open_source
from facedis_core.geometry.alignment import rigid_alignments

TABLE = expression_table()
NAMES = list(TABLE.expressions)
EVERY = range(len(NAMES))
SEED = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ict_twin.write_folder(tmp_path_factory.mktemp("FaceXModel"))


@pytest.fixture(scope="module")
def generator(folder):
    chosen = ict_twin.preparation().vertex_index
    return load_ict_faces(folder, read_generic(folder), chosen)


@pytest.fixture(scope="module")
def people():
    return [draw_subject(0, number) for number in range(400)]


def test_the_expressions_are_those_of_facescape_at_their_apex():
    assert tuple(NAMES) == trees.FACESCAPE_EXPRESSIONS
    assert len(TABLE.shapes) == 55 and list(TABLE.shapes) == sorted(TABLE.shapes)
    for name, weights in TABLE.expressions.items():
        assert set(weights) <= set(TABLE.shapes), name
        assert all(0.7 <= weight <= 1 for weight in weights.values()), name
        assert bool(weights) == (name != "neutral")
        for shape, weight in weights.items():  # a face at rest is symmetric, people are not
            twin = shape[:-2] + {"_L": "_R", "_R": "_L"}.get(shape[-2:], shape[-2:])
            assert weights[twin] == weight


def test_identities_are_normal_and_cut(people):
    weights = np.array([person.identity for person in people])
    assert weights.shape == (400, IDENTITY_MODES)
    assert np.abs(weights).max() <= 2.5
    # The standard deviation of a normal distribution cut at 2.5; clipping would give 0.99.
    assert weights.std() == pytest.approx(0.9546, abs=0.01)
    assert np.abs(weights.mean()) < 0.02
    assert (np.abs(weights) > 2.49).mean() < 0.005


def test_gains_and_imbalance(people):
    shapes = TABLE.shapes
    gains = np.array([person.gains for person in people])
    middle = [k for k, name in enumerate(shapes) if name[-2:] not in ("_L", "_R")]
    assert np.log(gains[:, middle]).std() == pytest.approx(0.25, abs=0.01)
    left = [k for k, name in enumerate(shapes) if name.endswith("_L")]
    right = [shapes.index(shapes[k][:-1] + "R") for k in left]
    # Over the pairs of one person the gains' own spread averages out and the imbalance remains.
    imbalance = np.log(gains[:, left] / gains[:, right]).mean(1) / 2
    expected = np.hypot(0.1, 0.25 / np.sqrt(2 * len(left)))
    assert imbalance.std() == pytest.approx(expected, rel=0.1)


def test_activations():
    subject = Subject(np.zeros(IDENTITY_MODES), np.linspace(0.5, 1.5, len(TABLE.shapes)))
    smile = TABLE.apexes[NAMES.index("smile")]
    drawn = np.array([draw_activations(subject, smile, random_stream(0, k)) for k in range(600)])
    used = smile > 0
    gaze = np.array([name.startswith("eyeLook") for name in TABLE.shapes])
    assert gaze.sum() == 8 and not drawn[:, gaze].any()
    background = drawn[:, ~used & ~gaze]
    assert background.min() >= 0
    assert np.sqrt((background**2).mean()) == pytest.approx(0.03, rel=0.03)
    gain = (drawn[:, used] - background.mean()).mean(0) / (smile * subject.gains)[used]
    np.testing.assert_allclose(gain, np.exp(0.1**2 / 2), rtol=0.02)
    strength = (drawn[:, used] / (smile * subject.gains)[used]).mean(1)
    assert np.log(strength).std() == pytest.approx(0.1, rel=0.15)
    assert not draw_activations(subject, TABLE.apexes[0], random_stream(0, 1)).any()


def test_streams_are_apart():
    """The numbers of the first three are in every set that was ever made."""
    assert (SUBJECT_STREAM, MESH_STREAM, SECOND_STREAM, MOTION_STREAM) == (1, 2, 3, 4)


def test_faces_against_a_slow_twin(folder, generator):
    for number, name in ((5, "grin"), (4, "jaw_left"), (4, "neutral")):
        shown, apex = NAMES.index(name), TABLE.expressions[name]
        stronger = {shape: 1.5 * weight for shape, weight in apex.items()}
        for variation, weights, noise_mm in (
            (PLAIN, apex, 0.05),
            (VARIATIONS["strong"], stronger, 0.05),
            (VARIATIONS["noisy"], apex, 0.5),
        ):
            found = generator.faces(SEED, number, [shown], variation)[0]
            expected = ict_twin.slow_face(folder, SEED, number, weights, shown, noise_mm)
            np.testing.assert_allclose(found, expected, atol=1e-3)
    expected = ict_twin.slow_face(folder, SEED, 4, {}, 0, 0)  # the true neutral
    np.testing.assert_allclose(generator.neutral_face(SEED, 4), expected, atol=1e-4)


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_combined_shows_the_larger_weight_of_two_expressions(folder, generator, shared):
    """Of the first mesh whose two expressions have so many shapes in common."""
    for number, shown in ((number, shown) for number in range(40) for shown in EVERY if shown):
        others = [name for name in NAMES if name not in ("neutral", NAMES[shown])]
        second = others[random_stream(SEED, SECOND_STREAM, number, shown).integers(len(others))]
        first, second = TABLE.expressions[NAMES[shown]], TABLE.expressions[second]
        if len(first.keys() & second.keys()) == shared:
            break
    apex = {s: max(first.get(s, 0.0), second.get(s, 0.0)) for s in (*first, *second)}
    found = generator.faces(SEED, number, [shown], VARIATIONS["combined"])[0]
    expected = ict_twin.slow_face(folder, SEED, number, apex, shown)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_second_expression_is_any_other_one_as_likely():
    shown, apexes = NAMES.index("grin"), TABLE.apexes
    seen = dict.fromkeys(NAMES, 0)
    for k in range(1700):
        found = VARIATIONS["combined"].apex(apexes, shown, random_stream(SEED, k))
        matching = [
            name
            for name, apex in zip(NAMES, apexes, strict=True)
            if name != "grin" and (found == np.maximum(apexes[shown], apex)).all()
        ]
        assert len(matching) == 1  # of no two do the larger weights agree
        seen[matching[0]] += 1
    assert seen.pop("neutral") == seen.pop("grin") == 0
    # 100 each; six standard deviations of a count.
    assert all(abs(count - 100) < 60 for count in seen.values()), seen
    nothing = VARIATIONS["combined"].apex(apexes, NAMES.index("neutral"), random_stream(SEED, 0))
    assert not nothing.any()


def test_moved_is_the_plain_face_turned_about_its_centroid_and_moved(generator):
    plain, moved = (
        np.concatenate([generator.faces(SEED, number, EVERY, v) for number in range(60)])
        for v in (PLAIN, VARIATIONS["moved"])
    )
    back = rigid_alignments(plain.astype(float), moved.astype(float))
    np.testing.assert_allclose(back.apply(plain), moved, atol=1e-4)
    # A turn about the centroid leaves it where it is, so what moves it is the translation.
    shift = (moved.mean(axis=1, dtype=float) - plain.mean(axis=1, dtype=float)).ravel()
    assert shift.mean() == pytest.approx(0, abs=0.07)
    assert shift.std() == pytest.approx(1, rel=0.05)
    # A rotation's antisymmetric part is its axis times the sine of its angle.
    r = back.rotation
    sines = np.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]])
    sine = np.linalg.norm(sines / 2, axis=0)
    angle = np.degrees(np.arcsin(sine))
    assert np.sqrt((angle**2).mean()) == pytest.approx(2, rel=0.08)
    # The size of a normal number has this mean, and lies below one standard deviation so often.
    assert angle.mean() == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.08)
    assert (angle < 2).mean() == pytest.approx(0.683, abs=0.05)
    axes = sines[:, angle > 0.2] / 2 / sine[angle > 0.2]
    np.testing.assert_allclose(axes.mean(axis=1), 0, atol=0.07)
    np.testing.assert_allclose(axes @ axes.T / axes.shape[1], np.eye(3) / 3, atol=0.06)
    np.testing.assert_allclose(np.corrcoef(shift.reshape(-1, 3).T) - np.eye(3), 0, atol=0.12)


def test_a_face_turns_about_its_own_centroid_wherever_it_lies(generator):
    face = generator.neutral_face(SEED, 0)
    far = face + np.array([300, -200, 500], np.float32)
    moved, moved_far = (
        VARIATIONS["moved"].place(place, random_stream(SEED, 0)) for place in (face, far)
    )
    assert np.abs(moved - face).max() > 0.1 and moved.dtype == np.float32
    np.testing.assert_allclose(moved_far - far, moved - face, atol=1e-3)


@pytest.mark.parametrize("name", VARIATIONS)
def test_people_labels_split_and_neutrals_are_the_plain_ones(folder, name):
    options = {"subjects": 12, "seed": SEED, "validation": 0.2}
    plain = open_source("ict", folder, options).source
    source = open_source("ict", folder, {**options, "variation": name}).source
    for field in ("names", "subjects", "expressions", "subject", "expression", "level", "split"):
        np.testing.assert_array_equal(
            getattr(source.labels, field), getattr(plain.labels, field), strict=True
        )
    assert source.protocol == plain.protocol
    every = np.arange(len(source.labels.names))
    reader = pickle.loads(pickle.dumps(source.reader(ict_twin.preparation(), every)))
    rows = source.blocks()[-1]
    found = reader.read(rows)
    expected = plain.reader(ict_twin.preparation(), every).read(rows)
    np.testing.assert_array_equal(found.neutral, expected.neutral)
    changed = np.abs(found.faces - expected.faces).max(axis=(1, 2)) > 0.01
    # An expression's strength and what is shown with it say nothing of a face at rest.
    at_rest = name in ("moved", "noisy")
    assert changed.tolist() == [at_rest or shown != "neutral" for shown in NAMES]
    np.testing.assert_array_equal(reader.read(rows[7:9]).faces, found.faces[7:9])


def test_other_variations_and_other_sources(folder, tmp_path):
    with raises("option-value", "'loud'.*strong, combined, moved, noisy"):
        open_source("ict", folder, {"variation": "loud"})
    for source in set(SOURCES) - {"ict"}:
        with raises("option-conflict", "--variation; it is for ict"):
            open_source(source, tmp_path, {"variation": "strong"})


def test_a_variation_is_all_that_histories_differ_in(tmp_path):
    like = ict_twin.write_like(tmp_path)
    plain, moved = (
        prepare("ict", tmp_path / "FaceXModel", tmp_path / "set", like=like, subjects=5, **options)
        for options in ({}, {"variation": "moved"})
    )
    assert (moved.set.source, moved.set.protocol) == (plain.set.source, plain.set.protocol)
    np.testing.assert_array_equal(moved.set.neutrals, plain.set.neutrals)
    options = plain.set.history[0].options
    assert moved.set.history[0].options == {**options, "variation": "moved"}
    assert "variation" not in options


def test_fewer_training_people_leave_the_tested_ones_as_they_are(tmp_path):
    """Excluding training people: the bytes, names and labels of the test split stay."""
    like = ict_twin.write_like(tmp_path)

    def made(name, exclude):
        root, target = tmp_path / "FaceXModel", tmp_path / name
        return prepare("ict", root, target, like=like, exclude=exclude, subjects=20).set

    everybody = made("all", ())
    names = everybody.labels.subjects
    tested = {names[s] for s in everybody.labels.subject[everybody.labels.split == TEST]}
    trained = [name for name in names if name not in tested]
    assert (len(tested), len(trained)) == (6, 14)
    some = made("some", trained[4:])
    assert set(some.labels.subjects) == tested | set(trained[:4])
    rows, all_rows = some.rows(TEST), everybody.rows(TEST)
    assert some.vertices[rows].tobytes() == everybody.vertices[all_rows].tobytes()
    for field in ("expression", "level", "split"):
        found, expected = (np.asarray(getattr(x.labels, field)) for x in (some, everybody))
        np.testing.assert_array_equal(found[rows], expected[all_rows], strict=True)
    for row, other in zip(rows, all_rows, strict=True):
        assert some.labels.names[row] == everybody.labels.names[other]
        person, same = some.labels.subject[row], everybody.labels.subject[other]
        assert some.labels.subjects[person] == names[same]
        np.testing.assert_array_equal(some.neutrals[person], everybody.neutrals[same])
