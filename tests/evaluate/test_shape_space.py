"""Generality and specificity against plain computations, and in fd-metrics."""

import json

import numpy as np
import pytest
import synthetic
from conftest import face

from facedis_core.data.face_set import TEST, TRAIN, load_face_set
from facedis_core.evaluate.evaluation import evaluate_face_set
from facedis_core.evaluate.prediction import model_predictor
from facedis_core.evaluate.shape_space import (
    KnownFaces,
    add_shape_space,
    generality,
    nearest_distances,
)
from facedis_core.geometry.distances import vertex_distance
from facedis_core.pipeline.sample import sample


@pytest.fixture
def faces(tmp_path):
    """10 people x 4 expressions, the last 3 people are test."""
    return load_face_set(
        synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())
    )


def test_the_nearest_face_is_that_of_all_pairs(faces):
    rows = faces.rows(TRAIN)
    made = np.stack([face(seed, 3.0) for seed in range(20)])
    known = faces.read(rows)
    wanted = [min(vertex_distance(one, other) for other in known) for one in made]
    np.testing.assert_allclose(nearest_distances(made, faces, rows), wanted, rtol=1e-9)
    region = np.arange(36) % 3 == 0
    wanted = [min(vertex_distance(one[region], other[region]) for other in known) for one in made]
    np.testing.assert_allclose(nearest_distances(made[:, region], faces, rows, region), wanted)


def test_all_latents_are_the_reconstruction_and_none_the_mean(faces, model, monkeypatch):
    monkeypatch.setattr("facedis_core.evaluate.shape_space.GENERALITY", (0, 1, 5, 6))
    rows = faces.rows(TEST)
    known = KnownFaces.of(model, faces, rows)
    assert len(known.rows) == len(faces.rows(TRAIN))
    found = generality(model, known.latents, faces, rows)
    assert list(found) == [0, 1, 5]  # of five latents
    truth = faces.read(rows)
    means = known.latents.identity.mean(0), known.latents.expression.mean(0)
    (rest,) = model.decode_vectors(*(mean[None].astype(np.float32) for mean in means))
    np.testing.assert_allclose(found[0], [vertex_distance(rest, one) for one in truth], rtol=1e-4)
    whole = vertex_distance(model.decode(model.encode_prepared(truth)), truth)
    np.testing.assert_allclose(found[5], whole, rtol=1e-4)


def test_a_report(faces, model, call, tmp_path):
    rows = faces.rows(TEST)
    plain = evaluate_face_set(model_predictor(model), faces, rows)
    found = add_shape_space(plain, model, faces, samples=20)
    drawn = sample(KnownFaces.of(model, faces, rows).latents, 20)
    made = model.decode(drawn)
    nearest = nearest_distances(made, faces, faces.rows(TRAIN))
    assert found.metrics["specificity"]["mean"] == pytest.approx(nearest.mean())
    real = nearest_distances(faces.read(rows), faces, faces.rows(TRAIN))  # 12, less than 20
    assert found.metrics["specificity_real"]["mean"] == pytest.approx(real.mean())
    assert set(found.metrics) - set(plain.metrics) == {
        "specificity_real",
        "specificity",
        *map("generality_{}".format, (1, 2, 4)),
    }
    result = call("fd-metrics set.safetensors --samples 20 --json --check 'specificity<=1000'")
    assert result.code == 0
    report = json.loads(result.out)
    assert report["model"]["generality_4"] == pytest.approx(found.metrics["generality_4"])
    assert "generality_4" in report["intervals"]["model"]
    assert "specificity" not in report["intervals"]["model"]  # of samples, not of people
    every = call("fd-metrics set.safetensors --samples 20 --split train --json").out
    assert "specificity_real" not in every.decode()  # of faces that are known
    table = call("fd-metrics set.safetensors --samples 20").out.decode()
    assert "specificity" in table and "generality_2" in table


@pytest.mark.parametrize(
    "line", ["set.safetensors --samples 5 --align", "--truth a --predicted b --samples 5"]
)
def test_what_does_not_go_together(faces, call, line):
    result = call(f"fd-metrics {line}")
    assert (result.code, result.kind) == (2, "option-conflict")
