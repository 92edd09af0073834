"""Metrics over whole sets: against the definitions applied to everything at once."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from raising import raises

from facedis_core.evaluate import expression_faces, metrics
from facedis_core.evaluate.evaluation import PER_EXPRESSION, PER_SUBJECT, evaluate_face_set
from facedis_core.evaluate.prediction import Prediction, align_faces
from facedis_core.geometry.alignment import RigidTransform


def tilted(faces):
    """A method that errs by a known amount: everything shifted, z_id the first vertex."""
    shift = np.float32([0, 0, 2])
    return Prediction(faces + shift, faces * np.float32(0.9), faces[:, 0])


@pytest.fixture
def faces():
    return synthetic.face_set()


@pytest.fixture
def test_rows(faces):
    return faces.rows(1)


def test_everything_like_the_definitions(faces, test_rows):
    found = evaluate_face_set(tilted, faces, test_rows, batch=3)
    vertices, subject = faces.vertices[test_rows], faces.labels.subject[test_rows]
    identity, people = tilted(vertices).identity, np.unique(subject)
    assert found.metrics["e_rec"] == pytest.approx(
        {"mean": 2, "std": 0, "median": 2, "n": 12}, abs=1e-5
    )
    errors = metrics.neutral_error(identity, faces.neutrals_eval[subject])
    assert found.metrics["avd_neu"] == pytest.approx(metrics.summarize(errors)._asdict())
    for key, spread in (
        ("e_dis", metrics.FaceSpread.std),
        ("e_dis_jiang", metrics.FaceSpread.jiang),
        ("e_dis_mean_distance", metrics.FaceSpread.mean_distance),
    ):
        expected = metrics.summarize(
            [spread(metrics.FaceSpread.of(identity[subject == s])) for s in people]
        )
        assert found.metrics[key] == pytest.approx(expected._asdict())
    np.testing.assert_allclose(found.per_mesh["avd_neu"], errors)


def test_recognition_like_trying_everybody(faces, test_rows):
    found = evaluate_face_set(tilted, faces, test_rows)
    vertices, subject = faces.vertices[test_rows], faces.labels.subject[test_rows]
    neutral = faces.labels.level[test_rows] == 0
    everything = tilted(vertices)
    gallery = everything.identity[neutral]
    hits = [
        subject[neutral][metrics.vertex_distance(gallery, face).argmin()] == person
        for face, person in zip(everything.identity[~neutral], subject[~neutral], strict=True)
    ]
    assert found.metrics["rank1_vertex_accuracy"] == np.mean(hits)
    assert found.metrics["rank1_probes"] == 9
    latents = everything.identity_latent / np.linalg.norm(
        everything.identity_latent, axis=1, keepdims=True
    )
    nearest = (latents[~neutral] @ latents[neutral].T).argmax(1)
    accuracy = np.mean(subject[neutral][nearest] == subject[~neutral])
    assert found.metrics["rank1_cosine_accuracy"] == accuracy
    assert np.isnan(found.per_mesh["rank1_cosine"][neutral]).all()


def test_between_subject_grows_with_the_people(faces, test_rows):
    narrow = evaluate_face_set(lambda x: Prediction(None, x * 0), faces, test_rows).metrics
    wide = evaluate_face_set(lambda x: Prediction(None, x), faces, test_rows).metrics
    assert narrow["between_subject"]["mean"] == 0 < wide["between_subject"]["mean"]
    again = evaluate_face_set(lambda x: Prediction(None, x), faces, test_rows, batch=1).metrics
    assert again == wide  # the faces drawn do not depend on the batch


def test_a_perfect_method(faces, test_rows):
    def perfect(vertices):
        return Prediction(vertices, np.stack([owner[v.tobytes()] for v in vertices]))

    owner = {
        v.tobytes(): faces.neutrals_eval[s]
        for v, s in zip(faces.vertices, faces.labels.subject, strict=True)
    }
    found = evaluate_face_set(perfect, faces, test_rows).metrics
    for key in ("e_rec", "e_dis", "e_dis_jiang", "e_dis_mean_distance", "avd_neu"):
        assert found[key]["mean"] == pytest.approx(0, abs=1e-6)
    assert found["rank1_vertex_accuracy"] == 1


def test_without_neutrals_the_rest_is_measured():
    faces = synthetic.face_set(neutrals=False)
    level = np.maximum(faces.labels.level, 0.5)
    faces = replace(faces, labels=replace(faces.labels, level=level))
    found = evaluate_face_set(tilted, faces, faces.rows(1)).metrics
    assert set(found) == {"e_rec", *PER_SUBJECT, *PER_EXPRESSION, "between_subject"}


def test_a_neutral_mesh_stands_in_for_a_missing_neutral_face(faces):
    rows = np.flatnonzero((faces.labels.split == 1) & (faces.labels.level > 0))
    level = np.maximum(faces.labels.level, 0.5)  # no face is neutral any more
    without = replace(faces, labels=replace(faces.labels, level=level))
    want = evaluate_face_set(tilted, faces, rows)
    got = evaluate_face_set(tilted, without, rows)
    assert got.metrics == want.metrics
    assert got.metrics["rank1_probes"] == 9


def test_one_face_a_subject_has_no_spread_and_one_subject_no_rivals(faces):
    neutrals = np.flatnonzero(faces.labels.level == 0)
    found = evaluate_face_set(tilted, faces, neutrals).metrics
    assert set(found) == {"e_rec", "avd_neu", *PER_EXPRESSION, "between_subject"}
    alone = evaluate_face_set(tilted, faces, np.flatnonzero(faces.labels.subject == 0)).metrics
    assert "between_subject" not in alone
    assert "rank1_vertex_accuracy" not in alone
    assert alone["e_dis"]["n"] == 1


def test_a_subject_with_one_face_is_not_counted(faces):
    rows = np.concatenate([np.flatnonzero(faces.labels.subject == 0), [4]])
    found = evaluate_face_set(tilted, faces, rows).metrics
    assert found["e_dis"]["n"] == 1
    assert found["e_rec"]["n"] == 5


def test_one_unknown_neutral_is_not_counted(faces, test_rows):
    neutrals = faces.neutrals_eval.copy()
    neutrals[9] = np.nan
    found = evaluate_face_set(tilted, replace(faces, neutrals_eval=neutrals), test_rows)
    assert found.metrics["avd_neu"]["n"] == 8
    assert np.isnan(found.per_mesh["avd_neu"]).sum() == 4


def test_alignment_takes_rigid_motion_away(faces, test_rows):
    angle = 0.3
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    motion = RigidTransform(turn, np.array([5.0, -3.0, 40.0]))

    def moved(vertices):
        return Prediction(motion.apply(vertices), motion.apply(vertices))

    plain = evaluate_face_set(moved, faces, test_rows).metrics
    aligned = evaluate_face_set(moved, faces, test_rows, align=True).metrics
    still = evaluate_face_set(lambda x: Prediction(x, x), faces, test_rows, align=True).metrics
    assert plain["e_rec"]["mean"] > 30 > 1e-4 > aligned["e_rec"]["mean"]
    assert aligned["avd_neu"]["mean"] == pytest.approx(still["avd_neu"]["mean"], abs=1e-4)
    assert aligned["e_dis"]["mean"] == pytest.approx(still["e_dis"]["mean"], abs=1e-4)


def test_align_faces_has_one_target_or_many(faces):
    few = faces.vertices[:3]
    np.testing.assert_allclose(align_faces(few + 7, few), few, atol=1e-4)
    np.testing.assert_allclose(align_faces(few[:1] + 7, few[0]), few[:1], atol=1e-4)


def test_a_prediction_that_is_not_finite_is_named(faces, test_rows):
    def broken(vertices):
        return Prediction(np.where(vertices == faces.vertices[test_rows[5]], np.nan, vertices))

    with raises("not-finite", f"face {test_rows[5]} "):
        evaluate_face_set(broken, faces, test_rows)


def test_progress_adds_up(faces, test_rows):
    steps = []
    evaluate_face_set(tilted, faces, test_rows, batch=3, progress=steps.append)
    assert sum(steps) == len(test_rows)


def slow_spreads(faces):
    """The three spreads of k faces by their definitions."""
    distance = np.linalg.norm(faces - faces.mean(axis=0), axis=-1)
    return distance.std(), np.sqrt((distance**2).mean(axis=0)).mean(), distance.mean()


@pytest.mark.parametrize("in_memory", [0, 1 << 28])
def test_expression_faces_like_the_definition(monkeypatch, faces, in_memory):
    """X_exp of one face for each person and expression, that of the highest level."""
    monkeypatch.setattr(expression_faces, "_MOST_IN_MEMORY", in_memory)
    level = faces.labels.level.copy()
    level[[1, 2]] = 0.5, 0.7  # the first person shows expression 1 twice, the second time more
    expression = faces.labels.expression.copy()
    expression[2] = 1
    expression[-1] = 3
    faces = replace(faces, labels=replace(faces.labels, level=level, expression=expression))
    rows = np.arange(40)
    found = evaluate_face_set(tilted, faces, rows, batch=3)
    offset = 0.1 * faces.vertices.astype(np.float64)  # and a shift, the same for all
    expected = []
    for kind in range(4):
        chosen = np.flatnonzero(expression == kind)
        if kind == 1:
            chosen = chosen[chosen != 1]
        expected.append(slow_spreads(offset[chosen]))
    for key, values in zip(PER_EXPRESSION, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(found.per_expression[key], values, rtol=1e-4)
        assert found.metrics[key] == pytest.approx(metrics.summarize(values)._asdict(), rel=1e-4)
    assert np.isnan(found.per_mesh["e_exp_mean_distance"][1])
    assert found.per_expression["e_exp_mean_distance"][0] == pytest.approx(
        found.per_mesh["e_exp_mean_distance"][expression == 0].mean()
    )


def test_a_method_that_does_not_split_has_no_expression_error(faces, test_rows):
    found = evaluate_face_set(lambda x: Prediction(x, x), faces, test_rows).metrics
    assert "e_dis" in found
    assert not set(found) & set(PER_EXPRESSION)


def test_sums_by_subject_give_the_metrics(faces):
    def both(vertices):
        latents = vertices.reshape(len(vertices), -1)
        return tilted(vertices)._replace(identity_latent=latents, expression_latent=latents[:, :5])

    found = evaluate_face_set(both, faces, np.arange(40))
    assert set(found.sums) == {
        key for key in found.metrics if not key.endswith(("_probes", "_faces", "_chance"))
    }
    for key, sums in found.sums.items():
        value = found.metrics[key]
        mean = value["mean"] if isinstance(value, dict) else value
        assert sums.mean() == pytest.approx(mean), key


def test_batches_may_be_measured_elsewhere_and_in_any_order(faces, test_rows):
    """Every other batch by an evaluation in another process that has the same arguments."""

    def by_two(function, items, *, everywhere=False):
        found = {place: pickle.dumps(function(items[place])) for place in range(1, len(items), 2)}
        for place in reversed(range(0, len(items), 2)):
            found[place] = pickle.dumps(function(items[place]))
        return [pickle.loads(found[place]) for place in range(len(items))]

    def nothing_elsewhere(function, items, *, everywhere=False):
        return by_two(function, items) if everywhere else []

    def latents(vertices):
        return tilted(vertices)._replace(expression_latent=vertices[:, 1])

    alone = evaluate_face_set(latents, faces, test_rows, batch=3)
    shared = evaluate_face_set(latents, faces, test_rows, batch=3, ordered_map=by_two)
    assert "identity_from_expression_accuracy" in alone.metrics
    assert shared.metrics == alone.metrics
    for key, values in alone.per_mesh.items():
        np.testing.assert_array_equal(shared.per_mesh[key], values)
    empty = evaluate_face_set(latents, faces, test_rows, batch=3, ordered_map=nothing_elsewhere)
    assert not empty.metrics and not empty.per_mesh


def test_predictions_of_other_shapes_are_refused(faces, test_rows):
    for wrong in (
        lambda x: Prediction(x[:1]),  # would be compared with every face
        lambda x: Prediction(x, x[:, :5]),
        lambda x: Prediction(x, x, np.ones((1, 2))),
        lambda x: Prediction(x, x, np.ones(len(x))),
    ):
        with raises("array-shape"):
            evaluate_face_set(wrong, faces, test_rows)
    with raises("argument-type"):
        evaluate_face_set(lambda x: (x, x), faces, test_rows)


def test_a_region_is_measured_like_its_vertices_alone(faces, test_rows):
    region = np.zeros(faces.vertices.shape[1], bool)
    region[5:23] = True
    small = replace(
        faces,
        vertices=faces.vertices[:, region],
        neutrals=faces.neutrals[:, region],
        neutrals_eval=faces.neutrals_eval[:, region],
    )
    bent = np.float32([0.01, 0, 0.02])

    def method(vertices):
        latents = np.ones((len(vertices), 2), np.float32)
        return Prediction(vertices * (1 + bent), vertices * (1 - bent), latents, latents)

    for align in (False, True):
        seen = []
        found = evaluate_face_set(
            method,
            faces,
            test_rows,
            region=region,
            align=align,
            observe=lambda _, sample, __: seen.append(sample.truth.shape[1]),  # noqa: B023 - called at once
        )
        alone = evaluate_face_set(method, small, test_rows, align=align)
        assert found.metrics.keys() == alone.metrics.keys()
        for key, value in alone.metrics.items():
            assert found.metrics[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
        assert set(seen) == {36}  # observers see whole faces
