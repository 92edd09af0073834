"""Variations of the open benchmark: what they change, against slow twins, and that it is all."""

import pickle

import ict_twin
import numpy as np
import pytest
from test_sources_ict import naive_edge, naive_normal, naive_turn

from facedis_core.data.face_set import TEST, load_face_set
from facedis_core.datasets.ict import load_ict_faces, read_generic
from facedis_core.datasets.ict_synthesis import (
    PLAIN,
    VARIATIONS,
    Variation,
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
from facedis_core.errors import UsageError
from facedis_core.geometry.alignment import rigid_alignments

TABLE = expression_table()
NAMES = list(TABLE.expressions)
EVERY = range(len(NAMES))
SEED = 3
COMMAND = "fd-prep ict FaceXModel --like like.safetensors --seed 3 --jobs 1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ict_twin.write_folder(tmp_path_factory.mktemp("FaceXModel"))


@pytest.fixture(scope="module")
def generator(folder):
    chosen = ict_twin.preparation().vertex_index
    return load_ict_faces(folder, read_generic(folder), chosen)


@pytest.fixture
def like(tmp_path):
    """The folder FaceXModel, and a set of it whose map others can follow."""
    return ict_twin.write_like(tmp_path)


def drawn(number, expression):
    """What chance gives one mesh: its gain, its background (E,) and its noise on 36 vertices."""
    random = random_stream(SEED, MESH_STREAM, number, expression)
    gain, background = 1.0, np.zeros(len(TABLE.shapes))
    if NAMES[expression] != "neutral":
        gain = np.exp(random.normal(0, 0.1))
        background = np.abs(random.normal(0, 0.03, len(TABLE.shapes)))
        background[[shape.startswith("eyeLook") for shape in TABLE.shapes]] = 0
    return gain, background, random.standard_normal((36, 3), dtype=np.float32)


def other_expression(number, expression):
    """The name of the second expression of one mesh."""
    others = [name for name in NAMES if name not in ("neutral", NAMES[expression])]
    return others[random_stream(SEED, SECOND_STREAM, number, expression).integers(len(others))]


def slow_offsets(folder, generator, number, weights):
    """What weights {shape: w} do to a person, vertex by vertex (V, 3) mm."""
    whole = load_ict_faces(folder, read_generic(folder))
    neutral, triangles = whole.neutral.astype(float), read_generic(folder).triangles
    subject = draw_subject(SEED, number)
    identity = neutral + sum(w * m for w, m in zip(subject.identity, whole.modes, strict=True))
    found = []
    for v in generator.chosen:
        offset = sum(w * whole.shapes[TABLE.shapes.index(s)][v] for s, w in weights.items())
        ratio = naive_edge(identity, triangles, v) / naive_edge(neutral, triangles, v)
        normals = (naive_normal(x, triangles, v) for x in (neutral, identity))
        found.append(naive_turn(offset, *normals) * min(max(ratio, 0.5), 2))
    return np.array(found)


def test_the_plain_set_is_what_it_was_before_there_were_variations(generator):
    """Bit for bit: the same sums in the same order, with nothing that a variation could change."""
    for number in range(3):
        subject = draw_subject(SEED, number)
        identity = generator._identity(subject)
        carry = generator._carry(identity)
        found = generator.faces(SEED, number, EVERY)
        for expression in EVERY:
            gain, background, noise = drawn(number, expression)
            used = TABLE.expressions[NAMES[expression]]
            apex = np.array([used.get(shape, 0.0) for shape in TABLE.shapes])
            weights = (apex * subject.gains * gain + background).astype(np.float32)
            expected = identity[generator.in_frame] + np.float32(0.05) * noise[generator.chosen]
            expected += np.einsum("vij,vj->vi", carry, np.tensordot(weights, generator.shapes, 1))
            np.testing.assert_array_equal(found[expression], expected)


def test_streams_are_apart():
    """The numbers of the first three are in every set that was ever made."""
    assert (SUBJECT_STREAM, MESH_STREAM, SECOND_STREAM, MOTION_STREAM) == (1, 2, 3, 4)


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
    for rows in (source.blocks()[0], source.blocks()[-1]):
        found = reader.read(rows)
        expected = plain.reader(ict_twin.preparation(), every).read(rows)
        np.testing.assert_array_equal(found.neutral, expected.neutral)
        changed = np.abs(found.faces - expected.faces).max(axis=(1, 2)) > 0.01
        # An expression's strength and what is shown with it say nothing of a face at rest.
        at_rest = name in ("moved", "noisy")
        assert changed.tolist() == [at_rest or shown != "neutral" for shown in NAMES]
        np.testing.assert_array_equal(reader.read(rows[7:9]).faces, found.faces[7:9])


@pytest.mark.parametrize("expression", ["smile", "jaw_left", "brow_lower"])
def test_strong_adds_half_of_what_the_expression_does(folder, generator, expression):
    number, shown = 4, NAMES.index(expression)
    plain, strong = (
        generator.faces(SEED, number, [shown], variation)[0].astype(float)
        for variation in (PLAIN, VARIATIONS["strong"])
    )
    gain, _, noise = drawn(number, shown)
    gains = dict(zip(TABLE.shapes, draw_subject(SEED, number).gains, strict=True))
    weights = {s: w * gains[s] * gain for s, w in TABLE.expressions[expression].items()}
    offsets = slow_offsets(folder, generator, number, weights)
    np.testing.assert_allclose(strong - plain, 0.5 * offsets, atol=1e-3)
    # Without noise and background, of which there is no more, it is one and a half times as far.
    _, background, _ = drawn(number, shown)
    beside = slow_offsets(
        folder, generator, number, dict(zip(TABLE.shapes, background, strict=True))
    )
    rest = generator.neutral_face(SEED, number) + 0.05 * noise[generator.chosen] + beside
    np.testing.assert_allclose(strong - rest, 1.5 * (plain - rest), atol=3e-3)


def meeting(wanted):
    """The first (person, expression) whose second expression shares so many shapes with it."""
    meshes = ((number, shown) for number in range(40) for shown in EVERY if shown)
    return next(
        (number, shown)
        for number, shown in meshes
        if len(
            TABLE.expressions[NAMES[shown]].keys()
            & TABLE.expressions[other_expression(number, shown)].keys()
        )
        == wanted
    )


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_combined_shows_the_larger_weight_of_two_expressions(folder, generator, shared):
    number, shown = meeting(shared)
    second = other_expression(number, shown)
    first = TABLE.expressions[NAMES[shown]]
    gain, background, noise = drawn(number, shown)
    weights = {}
    for k, shape in enumerate(TABLE.shapes):
        apex = first.get(shape, 0.0)
        if TABLE.expressions[second].get(shape, 0.0) > apex:
            apex = TABLE.expressions[second][shape]
        weights[shape] = apex * draw_subject(SEED, number).gains[k] * gain + background[k]
    expected = generator.neutral_face(SEED, number) + 0.05 * noise[generator.chosen]
    expected = expected + slow_offsets(folder, generator, number, weights)
    found = generator.faces(SEED, number, [shown], VARIATIONS["combined"])[0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_second_expression_is_any_other_one_as_likely():
    shown, apexes = NAMES.index("grin"), TABLE.apexes
    seen = dict.fromkeys(NAMES, 0)
    for k in range(3400):
        found = VARIATIONS["combined"].apex(apexes, shown, random_stream(SEED, k))
        matching = [
            name
            for name, apex in zip(NAMES, apexes, strict=True)
            if name != "grin" and (found == np.maximum(apexes[shown], apex)).all()
        ]
        assert found.max() <= 1 and "neutral" not in matching
        assert len(matching) == 1  # of no two do the larger weights agree
        seen[matching[0]] += 1
    assert seen.pop("neutral") == seen.pop("grin") == 0
    # 200 each; six standard deviations of a count.
    assert all(abs(count - 200) < 6 * np.sqrt(200) for count in seen.values()), seen
    nothing = VARIATIONS["combined"].apex(apexes, NAMES.index("neutral"), random_stream(SEED, 0))
    assert not nothing.any()


def test_moved_is_the_plain_face_turned_about_its_centroid_and_moved(generator):
    plain, moved = (
        np.concatenate([generator.faces(SEED, number, EVERY, v) for number in range(60)])
        for v in (PLAIN, VARIATIONS["moved"])
    )
    back = rigid_alignments(plain.astype(float), moved.astype(float))
    aligned = plain @ back.rotation.transpose(0, 2, 1) + back.translation[:, None]
    np.testing.assert_allclose(aligned, moved, atol=1e-4)
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


def test_every_mesh_moves_in_its_own_way(generator):
    moved = generator.faces(SEED, 1, EVERY, VARIATIONS["moved"])
    one = generator.faces(SEED, 1, [4], VARIATIONS["moved"])[0]
    np.testing.assert_array_equal(moved[4], one)
    shift = (moved - generator.faces(SEED, 1, EVERY)).mean(axis=1)
    assert len(np.unique(shift.round(3), axis=0)) == len(NAMES)


def test_noisy_has_ten_times_the_noise(generator):
    plain, noisy = (
        np.stack([generator.faces(SEED, number, EVERY, v) for number in range(20)]).astype(float)
        for v in (PLAIN, VARIATIONS["noisy"])
    )
    assert (noisy - plain).std() == pytest.approx(0.45, rel=0.02)
    neutral = NAMES.index("neutral")
    rest = np.stack([generator.neutral_face(SEED, number) for number in range(20)])
    assert (noisy[:, neutral] - rest).std() == pytest.approx(0.5, rel=0.05)
    # The same noise, only more of it.
    for number, expression in ((0, neutral), (3, 5)):
        _, _, noise = drawn(number, expression)
        added = (noisy - plain)[number, expression]
        np.testing.assert_allclose(added, 0.45 * noise[generator.chosen], atol=1e-4)


def test_changes_can_be_had_together(generator):
    """A variation is numbers; each acts as it does alone."""
    together = Variation(strength=1.5, noise_mm=0.5)
    parts = [generator.faces(SEED, 2, EVERY, VARIATIONS[name]) for name in ("strong", "noisy")]
    plain = generator.faces(SEED, 2, EVERY)
    found = generator.faces(SEED, 2, EVERY, together)
    np.testing.assert_allclose(found - plain, sum(part - plain for part in parts), atol=1e-3)


def test_other_variations_and_other_sources(folder, tmp_path):
    with pytest.raises(UsageError, match=r"'loud', expected one of strong, combined, moved, noisy"):
        open_source("ict", folder, {"variation": "loud"})
    for source in set(SOURCES) - {"ict"}:
        with pytest.raises(UsageError, match=rf"{source} has no option --variation; it is for ict"):
            open_source(source, tmp_path, {"variation": "strong"})


def test_the_command_and_its_history(call, like, tmp_path):
    """--variation is all that the histories differ in."""
    assert call(f"{COMMAND} --subjects 5 -o plain.safetensors").code == 0
    plain = load_face_set(tmp_path / "plain.safetensors")
    assert call(f"{COMMAND} --subjects 5 --variation moved -o moved.safetensors").code == 0
    made = load_face_set(tmp_path / "moved.safetensors")
    assert made.id != plain.id and (made.source, made.protocol) == (plain.source, plain.protocol)
    np.testing.assert_array_equal(made.neutrals, plain.neutrals)
    assert made.history[0].options == {**plain.history[0].options, "variation": "moved"}
    assert "variation" not in plain.history[0].options
    assert "'loud' is not one of" in call(f"{COMMAND} --variation loud -o x").line
    (tmp_path / "scans").mkdir()
    other = call("fd-prep folder scans --variation noisy -o x")
    assert (other.code, "--variation; it is for ict" in other.line) == (2, True)


def test_fewer_training_people_leave_the_tested_ones_as_they_are(call, like, tmp_path):
    """`--exclude` of training people: the bytes, names and labels of the test split stay."""
    assert call(f"{COMMAND} --subjects 20 -o all.safetensors").code == 0
    everybody = load_face_set(tmp_path / "all.safetensors")
    labels = everybody.labels
    tested = {labels.subjects[s] for s in labels.subject[labels.split == TEST]}
    trained = [name for name in labels.subjects if name not in tested]
    assert (len(tested), len(trained)) == (6, 14)
    kept = trained[: round(len(trained) / 4)]
    (tmp_path / "rest.txt").write_text("\n".join(name for name in trained if name not in kept))
    done = call(f"{COMMAND} --subjects 20 --exclude rest.txt -o some.safetensors")
    assert (done.code, done.err) == (0, "")
    some = load_face_set(tmp_path / "some.safetensors")
    assert set(some.labels.subjects) == tested | set(kept)
    assert some.topology == everybody.topology
    rows, all_rows = some.rows(TEST), everybody.rows(TEST)
    assert len(rows) == 120
    assert some.vertices[rows].tobytes() == everybody.vertices[all_rows].tobytes()
    for field in ("expression", "level", "split"):
        found, expected = (np.asarray(getattr(x.labels, field)) for x in (some, everybody))
        np.testing.assert_array_equal(found[rows], expected[all_rows], strict=True)
    for row, other in zip(rows, all_rows, strict=True):
        assert some.labels.names[row] == labels.names[other]
        person = some.labels.subject[row]
        assert some.labels.subjects[person] == labels.subjects[labels.subject[other]]
        for neutrals in ("neutrals", "neutrals_eval"):
            np.testing.assert_array_equal(
                getattr(some, neutrals)[person], getattr(everybody, neutrals)[labels.subject[other]]
            )
