"""Parts of faces, their truths and errors, against the definitions."""

import numpy as np
import pytest
from synthetic import face_set

from facedis_core.evaluate.evaluation import evaluate_face_set
from facedis_core.evaluate.prediction import (
    PredictedFaces,
    Prediction,
    Predictor,
    align_prediction,
    model_predictor,
)
from facedis_core.geometry.distances import vertex_distance
from facedis_core.model.model import Model
from facedis_core.report.comparison import PARTS, PartErrors, part_results


@pytest.fixture
def predict(model: Model) -> Predictor:
    return model_predictor(model)


def test_truths_are_those_of_the_paper(model: Model, predict: Predictor) -> None:
    faces = face_set()
    row = 33
    truth = faces.vertices[row : row + 1]
    neutral = faces.neutrals_eval[faces.labels.subject[row]]
    found = dict(part_results(PredictedFaces(truth, predict(truth)), neutral, model.mean_face))
    latents = model.encode_prepared(truth)
    for part in PARTS:
        predicted = model.decode_vectors(latents.identity, latents.expression, part)
        assert found[part].predicted == pytest.approx(predicted, abs=1e-4)
    assert np.array_equal(found["full"].truth, truth)
    assert np.array_equal(found["identity"].truth[0], neutral)
    expected = model.mean_face + (truth - neutral)
    assert found["expression"].truth == pytest.approx(expected, abs=1e-5)


def test_what_is_unknown_is_left_out(model: Model, predict: Predictor) -> None:
    truth = face_set().vertices[:2]
    neutral = model.mean_face
    predicted = PredictedFaces(truth, predict(truth))
    assert [part for part, _ in part_results(predicted, None, neutral)] == ["full"]
    only = PredictedFaces(truth, Prediction(identity=predicted.prediction.identity))
    assert [part for part, _ in part_results(only, neutral, neutral)] == ["identity"]


@pytest.mark.parametrize("align", [False, True])
def test_errors_are_those_of_the_metrics(model: Model, predict: Predictor, align: bool) -> None:
    faces = face_set()
    faces.neutrals_eval[8] = np.nan
    rows = faces.rows(1)
    errors = PartErrors(rows, model.mean_face)
    found = evaluate_face_set(predict, faces, rows, align=align, batch=3, observe=errors)
    for part, key in (("full", "e_rec"), ("identity", "avd_neu")):
        np.testing.assert_array_equal(errors.per_mesh[part], found.per_mesh[key])
    slow = {part: [] for part in PARTS}
    motion = []
    for place, row in enumerate(rows):
        truth = faces.vertices[row][None]
        neutral = faces.neutrals_eval[faces.labels.subject[row]]
        known = neutral if np.isfinite(neutral).all() else None
        predicted = PredictedFaces(truth, predict(truth))
        if align:
            predicted = PredictedFaces(truth, align_prediction(predicted, known))
        if known is None:
            assert np.isnan(errors.per_mesh["expression"][place])
            slow["full"].append(
                np.linalg.norm(predicted.prediction.reconstruction - truth, axis=2)[0]
            )
            continue
        full, identity = predicted.prediction.reconstruction[0], predicted.prediction.identity[0]
        motion.append(np.linalg.norm(truth[0] - known, axis=1))
        for part, predicted, true in (
            ("full", full, truth[0]),
            ("identity", identity, known),
            ("expression", full - identity, truth[0] - known),
        ):
            slow[part].append(np.linalg.norm(predicted - true, axis=1))
        mean = float(vertex_distance(full - identity, truth[0] - known))
        assert errors.per_mesh["expression"][place] == pytest.approx(mean, abs=1e-5)
    for part in PARTS:
        expected = np.mean(slow[part], axis=0)
        assert errors.per_vertex(part) == pytest.approx(expected, abs=1e-4)
    assert errors.motion() == pytest.approx(np.mean(motion, axis=0), abs=1e-4)


def test_without_any_neutral_there_is_no_motion(model: Model, predict: Predictor) -> None:
    faces = face_set(neutrals=False)
    rows = faces.rows(1)
    errors = PartErrors(rows, model.mean_face)
    evaluate_face_set(predict, faces, rows, observe=errors)
    assert list(errors.per_mesh) == ["full"]
    assert errors.motion() is None
