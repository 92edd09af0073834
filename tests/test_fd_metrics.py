"""fd-metrics as a user runs it, on small real files."""

import csv
import json
import os
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import synthetic
from conftest import face, save_mesh

from facedis_core.data.face_set import load_face_set
from facedis_core.evaluate import evaluation
from facedis_core.evaluate.prediction import model_predictor
from facedis_core.model.model_file import write_model

KEYS = [
    "e_rec",
    "e_dis",
    "e_dis_jiang",
    "e_dis_mean_distance",
    "avd_neu",
    "e_exp",
    "e_exp_jiang",
    "e_exp_mean_distance",
    "between_subject",
    "rank1_cosine_accuracy",
    "rank1_probes",
    "rank1_vertex_accuracy",
]
IDENTITY_READ_OFF = [
    "identity_from_expression_accuracy",
    "identity_from_expression_chance",
    "identity_from_expression_faces",
]
BASELINES = ["mean_face", "pca", "ridge_identity_mean", "ridge_identity_mean_2x"]
BASELINES += ["ridge_pseudo_neutral", "ridge_pseudo_neutral_2x"]
BASELINES += ["ridge_neutral", "ridge_neutral_2x", "flame_like_pseudo", "flame_like"]


@pytest.fixture
def face_set(tmp_path):
    """`set.safetensors`: 10 people x 4 expressions, the last 3 people are test."""
    return synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())


def report(result):
    assert result.code == 0, result.err
    assert not result.err
    return json.loads(result.out)


def test_json_has_what_the_library_measures(call, face_set, model):
    found = report(call("fd-metrics set.safetensors --json"))
    faces = load_face_set(face_set)
    predict = model_predictor(model)
    expected = evaluation.evaluate_face_set(predict, faces, faces.rows(1))
    assert list(found["model"]) == [*KEYS, *IDENTITY_READ_OFF, "latents"]
    for key, value in expected.metrics.items():
        assert found["model"][key] == pytest.approx(value), key
    facts = found["provenance"]
    assert (facts["model"], facts["set"], facts["split"]) == (model.id, faces.id, "test")
    assert (facts["faces"], facts["subjects"], facts["aligned"]) == (12, 3, False)
    assert facts["version"]
    assert "baselines" not in found


READ_OFF = [
    "expression_from_identity_accuracy",
    "expression_from_expression_accuracy",
    "expression_chance",
    "expression_faces",
]


def test_what_latents_tell_of_expressions_if_enough_people_show_them(call, face_set, tmp_path):
    line = "fd-metrics set.safetensors --split all"
    found = report(call(f"{line} --json"))["model"]
    assert list(found) == [*KEYS, *READ_OFF, *IDENTITY_READ_OFF, "latents"]
    assert (found["expression_chance"], found["expression_faces"]) == (0.25, 40)
    text = call(line).out.decode()
    for key in READ_OFF[:3]:
        assert f"{key} " in text
    (tmp_path / "old.json").write_bytes(call(f"{line} --json").out)
    worse = json.loads((tmp_path / "old.json").read_text())
    worse["model"]["expression_from_identity_accuracy"] -= 0.125
    worse["model"]["expression_from_expression_accuracy"] += 0.125
    worse["model"] |= {"expression_chance": 0.5, "expression_faces": 7}
    (tmp_path / "worse.json").write_text(json.dumps(worse))
    assert call(f"{line} --against old.json").code == 0
    result = call(f"{line} --against worse.json")
    assert (result.code, result.kind) == (1, "check-failed")
    assert "2 of 13 checks failed: expression_from_identity_accuracy is " in result.line


def test_an_earlier_report_without_them_still_compares(call, face_set, tmp_path):
    line = "fd-metrics set.safetensors --split all --json"
    found = report(call(line))
    found["model"] = {key: found["model"][key] for key in KEYS}
    (tmp_path / "old.json").write_text(json.dumps(found))
    assert call(f"{line} --against old.json").code == 0


def test_same_input_same_bytes(call, face_set):
    line = "fd-metrics set.safetensors --json --baselines"
    assert call(line).out == call(line).out


def test_a_set_on_a_pipe(call, face_set):
    by_name = call("fd-metrics set.safetensors --json")
    assert by_name.code == 0
    assert call("fd-metrics --json", stdin=face_set.read_bytes()).out == by_name.out


def test_table(call, face_set):
    result = call("fd-metrics set.safetensors --baselines")
    text = result.out.decode()
    assert result.code == 0
    for word in [*KEYS[:6], "median", "rank1_cosine_accuracy", *BASELINES, "split test"]:
        assert word in text
    assert "\x1b" not in text


def test_region(call, face_set, tmp_path):
    region = np.arange(36) < 9
    np.save(tmp_path / "region.npy", region)
    plain = report(call("fd-metrics set.safetensors --json"))
    found = report(call("fd-metrics set.safetensors --json --baselines --region region.npy"))
    assert found["provenance"]["region"] == "9 of 36 vertices"
    assert "region" not in plain["provenance"]
    assert found["model"]["e_rec"]["mean"] != plain["model"]["e_rec"]["mean"]
    assert found["baselines"]["pca"]["e_rec"]["mean"] > 0
    faces = replace(synthetic.face_set(), region=region)
    synthetic.write_face_set(tmp_path / "part.safetensors", faces)
    stored = report(call("fd-metrics part.safetensors --json"))
    assert stored["model"] == found["model"]
    whole = report(call("fd-metrics part.safetensors --json --region all"))
    assert whole["model"] == plain["model"]
    (tmp_path / "old.json").write_text(json.dumps(stored))
    other = call("fd-metrics part.safetensors --region all --against old.json")
    assert (other.code, other.kind) == (3, "not-comparable")
    assert "region 9 of 36 vertices" in other.line
    unknown = call("fd-metrics set.safetensors --region narrow-face")
    assert (unknown.code, unknown.kind) == (2, "option-value")


@pytest.fixture
def runs(call, face_set, tmp_path):
    """Reports on two face sets: a.json and b.json; their contents."""
    synthetic.write_face_set(tmp_path / "other.safetensors", synthetic.face_set(seed=4))
    for name, faces in (("a", "set"), ("b", "other")):
        line = f"fd-metrics {faces}.safetensors --baselines --json -o {name}.json"
        assert call(line).code == 0
    return [json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab"]


def test_combined_runs(call, runs):
    found = report(call("fd-metrics --combine a.json b.json --json --check 'e_rec<=100'"))
    for path in (("model",), ("baselines", "ridge_neutral")):
        place, parts = found, runs
        for key in path:
            place, parts = place[key], [part[key] for part in parts]
        values = [part["avd_neu"]["mean"] for part in parts]
        assert place["avd_neu"] == pytest.approx(
            {
                "mean": np.mean(values),
                "std": abs(values[0] - values[1]) / np.sqrt(2),
                "median": np.mean(values),
                "n": 2,
            }
        )
        accuracy = np.mean([part["rank1_vertex_accuracy"] for part in parts])
        assert place["rank1_vertex_accuracy"]["mean"] == pytest.approx(accuracy)
    assert found["provenance"]["reports"] == ["a.json", "b.json"]
    table = call("fd-metrics --combine a.json b.json --format csv").out.decode().splitlines()
    rows = list(csv.DictReader(table))
    assert list(rows[0]) == ["metric", "method", "condition", "mean", "std", "median", "n"]
    assert found["baselines"]["pca"]["condition"] == "present"
    assert {row["n"] for row in rows} == {"2"}


def test_runs_of_two_models_combine_by_name(call, face_set, shifted_model, model_file):
    line = f"{TWO.replace('MODEL', str(model_file))} --json -o"
    assert call(f"{line} a.json").code == call(f"{line} b.json").code == 0
    found = report(call("fd-metrics --combine a.json b.json --json"))
    assert list(found["models"]) == ["small", "shifted"]
    assert found["models"]["shifted"]["e_rec"]["std"] == 0


@pytest.mark.parametrize(
    ("line", "code", "kind", "named"),
    [
        ("--combine a.json", 2, "arguments", "two or more reports, got 1"),
        ("a.json b.json", 2, "arguments", "--combine"),
        ("--combine a.json b.json ./a.json", 2, "same-file", "a.json twice"),
        ("--combine a.json b.json -m x", 2, "option-conflict", "--model"),
        ("--combine a.json b.json --device auto", 2, "option-conflict", "--device"),
        ("--combine a.json b.json --per-mesh x", 2, "option-conflict", "--per-mesh"),
        ("--combine a.json other.safetensors", 3, "wrong-kind", "other.safetensors"),
        ("--combine a.json plain.json", 3, "not-comparable", "plain.json is a report on model"),
        ("--combine a.json all.json", 3, "not-comparable", "split all"),
        ("--combine a.json b.json --check 'e_rec<0'", 1, "check-failed", "e_rec"),
    ],
)
def test_runs_that_do_not_combine(call, runs, line, code, kind, named):
    if "plain" in line:
        assert call("fd-metrics set.safetensors --json -o plain.json").code == 0
    if "all.json" in line:
        made = call("fd-metrics set.safetensors --split all --baselines --json -o all.json")
        assert made.code == 0
    result = call(f"fd-metrics {line}")
    assert (result.code, result.kind) == (code, kind)
    assert named in result.line


@pytest.fixture
def shifted_model(model, tmp_path):
    """`shifted.safetensors`: the model with every prediction moved by 2 mm."""
    moved = replace(model, mean_face=model.mean_face + np.float32([0, 0, 2]))
    with (tmp_path / "shifted.safetensors").open("w+b") as stream:
        write_model(stream, moved)


TWO = "fd-metrics set.safetensors -m MODEL -m shifted.safetensors"


def test_two_models_side_by_side(call, face_set, shifted_model, model_file, tmp_path):
    line = TWO.replace("MODEL", str(model_file))
    alone = report(call("fd-metrics set.safetensors --json"))
    found = report(call(f"{line} --json --per-mesh each.csv --per-subject people.csv"))
    assert list(found["models"]) == ["small", "shifted"]
    assert found["models"]["small"] == alone["model"]
    assert found["intervals"]["models"]["small"] == alone["intervals"]["model"]
    assert list(found["provenance"]["models"]) == ["small", "shifted"]
    differences = found["differences"]["models"]
    assert list(differences) == ["shifted"]
    for key in ("e_rec", "avd_neu"):
        small, shifted = (found["models"][name][key]["mean"] for name in found["models"])
        assert differences["shifted"][key]["mean"] == pytest.approx(shifted - small)
    for key in ("e_dis", "e_exp", "between_subject", "rank1_vertex_accuracy"):
        difference = differences["shifted"][key]
        assert (difference["verdict"], difference["subjects"]) == ("none", 3)
    with (tmp_path / "each.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["small"] * 12 + ["shifted"] * 12
    with (tmp_path / "people.csv").open(newline="") as file:
        people = list(csv.DictReader(file))
    assert [row["subject"] for row in people[:3]] == ["person7", "person8", "person9"]
    assert np.mean([float(row["e_dis"]) for row in people[:3]]) == pytest.approx(
        found["models"]["small"]["e_dis"]["mean"], rel=1e-5
    )


def test_intervals_hold_their_means(call, face_set):
    found = report(call("fd-metrics set.safetensors --split all --json --baselines"))
    for path in (["model"], ["baselines", "pca"]):
        values, intervals = found, found["intervals"]
        for key in path:
            values, intervals = values[key], intervals[key]
        assert {"e_rec", "e_dis", "avd_neu", "rank1_vertex_accuracy"} <= set(intervals)
        for key, (low, high) in {k: v.values() for k, v in intervals.items()}.items():
            value = values[key]["mean"] if isinstance(values[key], dict) else values[key]
            assert low - 1e-12 <= value <= high + 1e-12
    neutral = found["differences"]["baselines"]["ridge_neutral"]["avd_neu"]
    assert (neutral["verdict"], neutral["p"] < 0.01) == ("better", True)


def test_checks_of_two_models(call, face_set, shifted_model, model_file):
    line = TWO.replace("MODEL", str(model_file))
    failed = call(f"{line} --check 'e_rec<=0.1' --check 'differences.models.shifted.e_dis<=0.01'")
    assert (failed.code, failed.kind) == (1, "check-failed")
    assert "2 of 3 checks failed: models.small.e_rec is " in failed.line
    assert call(f"{line} --check 'intervals.models.small.e_rec.high<=100'").code == 0
    refused = call(f"{line} --against old.json")
    assert (refused.code, refused.kind) == (2, "option-conflict")


def test_a_report_on_two_models_is_no_earlier_report(
    call, face_set, shifted_model, model_file, tmp_path
):
    (tmp_path / "two.json").write_bytes(call(f"{TWO.replace('MODEL', str(model_file))} --json").out)
    result = call("fd-metrics set.safetensors --against two.json")
    assert (result.code, result.kind) == (3, "wrong-kind")
    assert "2 models" in result.line


def test_one_model_twice(call, face_set, model_file):
    result = call(f"fd-metrics set.safetensors -m {model_file} -m {model_file}")
    assert (result.code, result.kind) == (2, "same-file")


def test_formats(call, face_set, shifted_model, model_file):
    line = f"{TWO.replace('MODEL', str(model_file))} --baselines"
    table = list(csv.DictReader(call(f"{line} --format csv").out.decode().splitlines()))
    methods = ["small", "shifted", *BASELINES]
    assert [row["method"] for row in table if row["metric"] == "e_rec"] == methods
    for row in table:
        assert (row["difference"] == "") == (row["method"] == "small" or row["low"] == "")
        if row["metric"] in KEYS[:5]:
            assert all(float(row[key]) >= 0 for key in ("low", "high", "std", "median", "n"))
    markdown = call(f"{line} --format markdown").out.decode().splitlines()
    assert len([text for text in markdown if text.startswith("|")]) == len(table) + 2
    latex = call(f"{line} --format latex").out.decode()
    assert latex.count(r" \\") == len(table) + 1
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    text = call(f"{line}").out.decode()
    assert all(word in text for word in (*methods, "none", "too narrow with so few"))
    assert "worse" not in text
    everybody = call(f"{line} --split all").out.decode()  # of three people no difference is sure
    assert "worse" in everybody
    assert "too narrow" not in everybody
    assert call(f"{line} --format json").out == call(f"{line} --json").out


def test_details_by_suffix(call, face_set, tmp_path):
    line = "fd-metrics set.safetensors --per-mesh m.md --per-subject s.tex --per-expression e.csv"
    assert call(line).code == 0
    assert (tmp_path / "m.md").read_text().count("\n|") == 13
    assert (tmp_path / "s.tex").read_text().count(r" \\") == 4
    with (tmp_path / "e.csv").open(newline="") as file:
        rows = {row["expression"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["neutral", "expression1", "expression2", "expression3"]
    assert {row["faces"] for row in rows.values()} == {"3"}
    found = report(call("fd-metrics set.safetensors --json"))["model"]["e_exp"]
    values = [float(row["e_exp"]) for row in rows.values()]
    assert (np.mean(values), np.median(values)) == pytest.approx(
        (found["mean"], found["median"]), rel=1e-5
    )


@pytest.mark.parametrize(("split", "faces"), [("test", 12), ("train", 28), ("all", 40)])
def test_split(call, face_set, split, faces):
    found = report(call(f"fd-metrics set.safetensors --split {split} --json"))
    assert found["model"]["e_rec"]["n"] == faces


def test_empty_split(call, face_set):
    result = call("fd-metrics set.safetensors --split validation -o out.txt")
    assert (result.code, result.kind) == (3, "split-empty")
    assert "validation" in result.line
    assert not (face_set.parent / "out.txt").exists()


def test_baselines(call, face_set):
    found = report(call("fd-metrics set.safetensors --json --baselines"))["baselines"]
    assert list(found) == BASELINES
    assert set(found["pca"]["e_rec"]) == {"mean", "std", "median", "n"}
    assert found["pca"]["components"] == 5  # 3 identity + 2 expression
    assert found["ridge_neutral_2x"]["components"] == 10
    assert found["ridge_neutral"]["avd_neu"]["mean"] < found["mean_face"]["avd_neu"]["mean"]


def test_conditions(call, face_set, tmp_path, model):
    """Without labelled neutrals a model is held against the baselines that do without them too."""
    for name in ("present", "labelled"):
        scale = model.scale + len(name)
        told = replace(model, recipe={"condition": name}, scale=scale)
        write_model(tmp_path / f"{name}.safetensors", told)
        line = f"fd-metrics set.safetensors -m {name}.safetensors --baselines"
        assert call(f"{line} --json -o {name}.json").code == 0
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert found["model"]["condition"] == name
        strongest = found["strongest_baselines"]["model"]
        for key, best in strongest.items():
            rivals = {
                other: values[key]["mean"]
                for other, values in found["baselines"].items()
                if not other.endswith("_2x")
                and (name == "labelled" or values["condition"] == "present")
                and not (key == "e_dis" and other in ("pca", "mean_face"))
            }
            assert best["mean"] == min(rivals.values()) == rivals[best["baseline"]]
            assert best["ratio"] == pytest.approx(found["model"][key]["mean"] / best["mean"])
        assert list(strongest) == ["e_rec", "e_dis", "avd_neu"]
        text = call(line).out.decode()
        assert f"strongest baselines for model ({name}): e_rec pca " in text
    names = "-m present.safetensors -m labelled.safetensors"
    two = report(call(f"fd-metrics set.safetensors {names} --baselines --json"))
    assert two["strongest_baselines"]["models"]["labelled"] == strongest
    (tmp_path / "again.json").write_bytes((tmp_path / "labelled.json").read_bytes())
    combined = report(call("fd-metrics --combine labelled.json again.json --json"))
    assert combined["strongest_baselines"]["model"] == strongest


def test_baselines_are_no_measure_for_models_of_another_size(call, face_set):
    for name, size in (("own", 3), ("other", 2)):
        options = f"--neutrals --set identity={size} --set expression=2 -o {name}.safetensors"
        assert call(f"fd-train set.safetensors {options}").code == 0
    for first, second in (("own", "other"), ("other", "own")):
        names = f"-m {first}.safetensors -m {second}.safetensors"
        result = call(f"fd-metrics set.safetensors {names} --baselines --json")
        sizes = {"own": 5, "other": 4}
        assert (
            f"the baselines are fitted for the {sizes[first]} latents of {first} and are no "
            f"measure for {second} ({sizes[second]})" in result.err
        )
        found = json.loads(result.out)
        assert {name: found["models"][name]["latents"] for name in sizes} == sizes
        assert found["baselines"]["pca"]["components"] == sizes[first]
        assert found["strongest_baselines"]["models"][second] == {}
        assert set(found["strongest_baselines"]["models"][first]) == {"e_rec", "e_dis", "avd_neu"}


def test_baselines_from_another_set(call, face_set, tmp_path):
    synthetic.write_face_set(tmp_path / "other.safetensors", synthetic.face_set(seed=4))
    own = report(call("fd-metrics set.safetensors --json --baselines"))
    other = report(call("fd-metrics set.safetensors --json --baselines-from other.safetensors"))
    assert list(other["baselines"]) == BASELINES
    assert other["baselines"]["pca"] != own["baselines"]["pca"]
    assert other["model"] == own["model"]
    assert other["provenance"]["baselines_set"] != own["provenance"]["baselines_set"]


def test_checks_that_hold(call, face_set):
    line = "--check 'e_rec<=100' --check 'e_dis.median>=0' --check 'baselines.pca.e_rec>0'"
    assert call(f"fd-metrics set.safetensors --baselines {line}").code == 0


def test_checks_that_do_not_hold(call, face_set):
    checks = "--check 'e_rec<=0.1' --check 'e_rec.median>900' --check 'e_dis<99' --check 'e_no<=1'"
    result = call(f"fd-metrics set.safetensors --json {checks}")
    assert (result.code, result.kind) == (1, "check-failed")
    assert "3 of 4 checks failed: e_rec is " in result.line
    assert "limit <= 0.1; e_rec.median is " in result.line
    assert "limit > 900; e_no was not measured, limit <= 1" in result.line
    assert json.loads(result.out)["model"]["e_rec"]  # the answer is there all the same


def test_a_missing_metric_fails(call, tmp_path):
    synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set(neutrals=False))
    result = call("fd-metrics set.safetensors --json --check 'avd_neu<=1000'")
    assert (result.code, result.kind) == (1, "check-failed")
    assert "avd_neu was not measured" in result.line
    assert "avd_neu" not in json.loads(result.out)["model"]


def test_a_check_is_read_before_anything_else(call):
    result = call("fd-metrics missing.safetensors --check 'e_rec=<1'")
    assert (result.code, result.kind) == (2, "option-value")
    assert "'e_rec=<1'" in result.line


def test_a_misspelt_check_is_found_before_anything_else(call):
    result = call("fd-metrics missing.safetensors --check 'e_dis.medain<=1'")
    assert (result.code, result.kind) == (2, "option-value")
    assert "did you mean 'e_dis.median'?" in result.line


@pytest.fixture
def old(call, face_set, tmp_path):
    """Write the report on the set with some numbers of its model changed."""

    def write(**changes):
        found = report(call("fd-metrics set.safetensors --json"))
        for key, value in changes.items():
            part = found["model"] if key in found["model"] else found["provenance"]
            part[key] = value
        (tmp_path / "old.json").write_text(json.dumps(found))

    return write


AGAINST = "fd-metrics set.safetensors --json --against old.json"


def test_as_good_as_before(call, old, tmp_path):
    old()
    assert call(AGAINST).code == 0
    earlier = (tmp_path / "old.json").read_bytes()
    assert call(AGAINST.replace("old.json", "-"), stdin=earlier).code == 0
    old(e_rec={"mean": 1e9}, rank1_vertex_accuracy=0.0)
    assert call(AGAINST).code == 0  # much better is no failure


def test_worse_than_before(call, old):
    old(e_rec={"mean": 0.5}, e_dis={"mean": 0.0}, rank1_vertex_accuracy=1.5)
    result = call(f"{AGAINST} --tolerance 2% --check 'e_rec<=0.1'")
    assert (result.code, result.kind) == (1, "check-failed")
    assert "4 of 12 checks failed: e_rec is " in result.line
    assert "limit <= 0.51 (0.5 in old.json, tolerance 2%); e_dis is " in result.line
    assert "limit >= 1.47 (1.5 in old.json, tolerance 2%)" in result.line
    assert json.loads(result.out)["model"]["e_rec"]  # the report is there all the same
    result = call(f"{AGAINST} --tolerance 1000")
    assert result.code == 0


def test_a_metric_that_is_no_longer_measured(call, tmp_path, old):
    old()
    earlier = json.loads((tmp_path / "old.json").read_text())
    synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set(neutrals=False))
    earlier["provenance"]["set"] = load_face_set(tmp_path / "set.safetensors").id
    (tmp_path / "old.json").write_text(json.dumps(earlier))
    result = call(f"{AGAINST} --tolerance 1000%")
    assert (result.code, result.kind) == (1, "check-failed")
    assert "1 of 11 checks failed: avd_neu was not measured" in result.line


@pytest.mark.parametrize(
    ("changes", "kind", "named"),
    [
        ({"set": "0" * 12}, "not-comparable", "set 000000000000"),
        ({"split": "all"}, "not-comparable", "split all"),
        ({"faces": 1}, "not-comparable", "1 faces"),
        ({"aligned": True}, "not-comparable", "aligned predictions"),
        ({"e_rec": None}, "metric-missing", "e_rec"),
    ],
)
def test_an_earlier_report_that_does_not_compare(call, old, tmp_path, changes, kind, named):
    old(**changes)
    result = call(f"{AGAINST} -o new.json --per-mesh each.csv --junit junit.xml")
    assert (result.code, result.kind) == (3, kind)
    assert named in result.line
    assert not list(tmp_path.glob("new.json")) + list(tmp_path.glob("*.xml"))


def test_an_earlier_report_is_looked_at_before_anything_is_computed(call, tmp_path, old):
    broken = synthetic.face_set()
    broken.vertices[39] = np.nan  # which measuring would find
    synthetic.write_face_set(tmp_path / "set.safetensors", broken)
    old_report = {"model": {"e_rec": {"mean": 1}}, "provenance": {"set": "0" * 12}}
    (tmp_path / "old.json").write_text(json.dumps(old_report))
    assert call(AGAINST).kind == "not-comparable"
    (tmp_path / "old.json").write_text("{}")
    result = call(AGAINST.replace("set.safe", "missing.safe"))
    assert (result.kind, "old.json" in result.line) == ("wrong-kind", True)


def test_folders_against_an_earlier_report(call, shifted, tmp_path):
    line = "fd-metrics --truth faces --predicted shifted --json"
    (tmp_path / "old.json").write_bytes(call(line).out)
    assert call(f"{line} --against old.json").code == 0
    for path in ("faces/ann.ply", "shifted/ann.ply"):
        (tmp_path / path).unlink()
    result = call(f"{line} --against old.json")
    assert (result.code, result.kind) == (3, "not-comparable")
    assert "4 faces" in result.line
    (tmp_path / "one").mkdir()
    shutil.copy(tmp_path / "shifted/bob.ply", tmp_path / "one")
    truth = (tmp_path / "faces/bob.ply").read_bytes()
    piped = "fd-metrics --truth - --predicted one --json --against old.json"
    pipe = call(piped, stdin=truth)
    assert (pipe.code, pipe.kind) == (3, "not-comparable")
    assert "1 faces" in pipe.line


def test_junit(call, old, tmp_path):
    old(e_rec={"mean": 0.5})
    line = f"{AGAINST} --check 'e_dis<99' --check 'avd_neu<0.1' --junit junit.xml -o new.json"
    result = call(f"{line} --per-mesh each.csv")
    assert (result.code, result.kind) == (1, "check-failed")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("13", "2")
    failed = {case.get("name"): case[0].get("message") for case in suite if len(case)}
    assert list(failed) == ["avd_neu<0.1", "e_rec"]
    for message in failed.values():
        assert message in result.line
    assert json.loads((tmp_path / "new.json").read_text())["model"]
    assert (tmp_path / "each.csv").read_text().count("\n") == 13
    again = call(line)
    assert (again.code, again.kind) == (2, "output-exists")
    assert "new.json" in again.line
    passing = call("fd-metrics set.safetensors --check 'e_dis<99' --junit - -o page.txt")
    assert passing.code == 0
    assert ElementTree.fromstring(passing.out)[0].get("failures") == "0"


def test_output_file(call, face_set, tmp_path):
    line = "fd-metrics set.safetensors --json -o out.json"
    assert call(line).code == 0
    assert json.loads((tmp_path / "out.json").read_text())["model"]["e_rec"]
    again = call(line)
    assert (again.code, again.kind) == (2, "output-exists")
    assert call(f"{line} --force").code == 0


def test_per_mesh(call, face_set, tmp_path):
    found = report(call("fd-metrics set.safetensors --json --per-mesh each.csv"))
    with (tmp_path / "each.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[0]["name"] == "person7/neutral"
    assert (rows[1]["subject"], rows[1]["expression"]) == ("person7", "expression1")
    errors = [float(row["e_rec"]) for row in rows]
    assert np.mean(errors) == pytest.approx(found["model"]["e_rec"]["mean"], rel=1e-5)
    assert rows[0]["rank1_vertex"] == ""  # in the gallery
    assert {row["rank1_vertex"] for row in rows[1:4]} <= {"0", "1"}


def test_alignment(call, face_set):
    plain = report(call("fd-metrics set.safetensors --json"))
    aligned = report(call("fd-metrics set.safetensors --json --align"))
    assert aligned["provenance"]["aligned"] is True
    assert aligned["model"]["e_rec"]["mean"] < plain["model"]["e_rec"]["mean"]


def test_wrong_topology(call, tmp_path):
    synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set(size=7))
    result = call("fd-metrics set.safetensors -o out.txt")
    assert (result.code, result.kind) == (3, "topology")
    assert "(49 vertices)" in result.line
    assert not (tmp_path / "out.txt").exists()


def test_baselines_from_a_set_of_another_topology(call, face_set, tmp_path):
    synthetic.write_face_set(tmp_path / "other.safetensors", synthetic.face_set(size=7))
    result = call("fd-metrics set.safetensors --baselines-from other.safetensors")
    assert (result.code, result.kind) == (3, "topology")
    assert "other.safetensors" in result.line


@pytest.mark.parametrize(
    ("line", "code", "kind", "named"),
    [
        ("--truth faces", 2, "option-missing", "--predicted"),
        ("--predicted faces", 2, "option-missing", "--truth"),
        ("--labels labels.csv", 2, "option-missing", "--truth"),
        ("--predicted-identity faces", 2, "option-missing", "--truth"),
        ("--truth faces --predicted-identity faces", 2, "option-missing", "--labels"),
        ("set.safetensors --truth faces --predicted faces", 2, "option-conflict", "--truth"),
        ("--truth faces --predicted faces --baselines", 2, "option-conflict", "--truth"),
        ("--truth faces --predicted faces --device auto", 2, "option-conflict", "--device"),
        ("--truth - --predicted -", 2, "same-file", "standard input (-)"),
        ("- --baselines-from -", 2, "same-file", "standard input (-)"),
        ("set.safetensors --per-mesh x -o x", 2, "same-file", "--per-mesh"),
        ("set.safetensors --per-mesh x -o ./x", 2, "same-file", "--per-mesh"),
        ("set.safetensors --junit x -o x --check 'e_rec<1'", 2, "same-file", "--junit"),
        ("set.safetensors --junit - --check 'e_rec<1'", 2, "same-file", "--output and --junit"),
        ("set.safetensors --junit x", 2, "option-missing", "--check or --against"),
        ("set.safetensors --tolerance 2%", 2, "option-missing", "--against REPORT"),
        ("set.safetensors --tolerance two --against x", 2, "option-value", "--tolerance 'two'"),
        ("set.safetensors --against missing.json", 3, "file-missing", "missing.json"),
        ("- --against -", 2, "same-file", "standard input (-)"),
        ("--truth - --predicted faces --against -", 2, "same-file", "standard input (-)"),
        ("set.safetensors --json --format csv", 2, "option-conflict", "--format csv"),
        ("set.safetensors -o x.json", 2, "output-suffix", "a report as table"),
        ("set.safetensors --json -o x.csv", 2, "output-suffix", ".json"),
        ("set.safetensors --per-mesh x.npy", 2, "output-suffix", ".csv or .md or .tex"),
        ("set.safetensors --check 'e_rec<1' --junit x.json", 2, "output-suffix", "JUnit XML"),
        ("set.safetensors --per-subject x --per-mesh x", 2, "same-file", "--per-subject"),
        ("set.safetensors --neutral calm", 2, "option-missing", "--labels"),
        ("--truth faces --predicted faces --per-subject x", 2, "option-missing", "--labels"),
        (f"--truth {'a' * 300} --predicted faces", 3, "file-unreadable", "File name too long"),
        ("missing.safetensors", 3, "file-missing", "missing.safetensors"),
        ("faces/ann.ply", 3, "wrong-kind", "faces/ann.ply"),
        ("MODEL", 3, "wrong-kind", "is a model"),
        ("set.safetensors -m set.safetensors", 3, "wrong-kind", "is a face set"),
        ("set.safetensors -o missing/out", 4, "output-unwritable", "missing"),
        ("", 3, "empty", "standard input"),
    ],
)
def test_what_is_refused(call, face_set, faces, model_file, line, code, kind, named):
    result = call(f"fd-metrics {line.replace('MODEL', str(model_file))}")
    assert (result.code, result.kind) == (code, kind)
    assert named in result.line
    assert not result.out


def test_a_truncated_set(call, face_set):
    face_set.write_bytes(face_set.read_bytes()[:-100])
    result = call("fd-metrics set.safetensors")
    assert (result.code, result.kind) == (3, "damaged")
    assert "set.safetensors" in result.line


@pytest.fixture
def shifted(faces, tmp_path):
    """The five faces of `faces`, moved by 2 mm, in the folder `shifted`."""
    from facedis_core.mesh.mesh import read_mesh

    for path in faces.rglob("*.*"):
        target = tmp_path / "shifted" / path.relative_to(faces).with_suffix(".ply")
        save_mesh(target, read_mesh(path).vertices + np.float32([0, 2, 0]))


def test_folders(call, shifted):
    found = report(call("fd-metrics --truth faces --predicted shifted --json"))
    assert found["model"] == {
        "e_rec": pytest.approx({"mean": 2, "std": 0, "median": 2, "n": 5}, abs=1e-5)
    }
    assert found["provenance"]["faces"] == 5
    assert found["intervals"] == {"model": {}}  # nobody says whose faces these are
    table = call("fd-metrics --truth faces --predicted shifted --format csv").out.decode()
    assert table.splitlines()[0] == "metric,method,mean,std,median,n"


def test_folders_with_labels(call, shifted, tmp_path):
    names = ["ann", "bob", "cy", "deep/dan", "eva grün"]
    lines = [f"{name},{'AB'[i % 2]},{'neutral' if i < 2 else i}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("name,subject,expression\n" + "\n".join(lines))
    line = "fd-metrics --truth faces --predicted shifted --labels labels.csv"
    found = report(call(f"{line} --json --per-mesh each.csv"))
    assert {"e_rec", "e_dis", "avd_neu", "between_subject", "rank1_vertex_accuracy"} <= set(
        found["model"]
    )
    assert found["provenance"]["subjects"] == 2
    each = (tmp_path / "each.csv").read_text().splitlines()
    assert each[0] == "name,subject,expression,e_rec,avd_neu,e_dis_mean_distance,rank1_vertex"
    assert each[1].startswith("ann,A,neutral,2,2,")
    assert not {key for key in found["model"] if key.startswith("e_exp")}
    assert call(f"{line} --check 'avd_neu<=0.1'").kind == "check-failed"
    calm = call(f"{line} --neutral calm")
    assert (calm.code, calm.kind) == (3, "neutral-missing")
    assert "'calm'" in calm.line


def test_a_pipe_of_predictions(call, faces):
    meshes = call("fd-decode", stdin=call("fd-encode faces --force-encode").out).out
    found = report(call("fd-metrics --truth faces --predicted - --json", stdin=meshes))
    assert found["model"]["e_rec"]["n"] == 5


def test_a_prediction_is_missing(call, shifted, tmp_path):
    (tmp_path / "shifted" / "bob.ply").unlink()
    result = call("fd-metrics --truth faces --predicted shifted")
    assert (result.code, result.kind) == (3, "partner-missing")
    assert "'bob'" in result.line


@pytest.mark.parametrize("row", [1, 39])
@pytest.mark.parametrize("options", ["", "--baselines", "--baselines-from set.safetensors"])
def test_a_face_that_is_not_finite_is_named(call, tmp_path, row, options):
    broken = synthetic.face_set()
    broken.vertices[row] = np.nan
    synthetic.write_face_set(tmp_path / "set.safetensors", broken)
    result = call(f"fd-metrics set.safetensors {options}")
    if row == 1 and not options:  # a training face, of no interest here
        assert result.code == 0
    else:
        assert (result.code, result.kind) == (3, "not-finite")
        assert f"{broken.labels.names[row]!r}" in result.line


def test_a_name_that_is_not_utf_8(call, tmp_path):
    name = os.fsencode(tmp_path) + b"/faces/m\xfcller.ply"
    save_mesh(tmp_path / "faces" / "x.ply", synthetic.grid_mesh()[0]).rename(os.fsdecode(name))
    result = call("fd-metrics --truth faces --predicted faces --per-mesh each.csv")
    assert result.code == 0, result.err
    assert b"\nm\xfcller,,,0\n" in (tmp_path / "each.csv").read_bytes()


@pytest.mark.parametrize(("unit", "mm"), [("cm", 10), ("m", 1000), ("inch", 25.4)])
def test_truth_and_predictions_in_two_units(call, tmp_path, unit, mm):
    for number, people in (("mm", 1.0), (unit, 1 / mm)):
        for person in range(3):
            mesh = face(person) * np.float32(1.9 * people)
            save_mesh(tmp_path / number / f"p{person}.obj", mesh)
    for truth, predicted in (("mm", unit), (unit, "mm")):
        found = report(call(f"fd-metrics --truth {truth} --predicted {predicted} --json"))
        assert found["model"]["e_rec"]["mean"] == pytest.approx(0, abs=1e-4)
    wrong = call(f"fd-metrics --truth mm --predicted {unit} --units mm")
    assert (wrong.code, wrong.kind) == (3, "unit")
    assert "the predicted mesh of 'p0' is " in wrong.line


def test_units_are_for_meshes(call, face_set):
    wrong = call("fd-metrics set.safetensors --units cm")
    assert (wrong.code, wrong.kind) == (2, "option-conflict")


class TestParts:
    """What parts measure, merged, is what one run measures."""

    def parts(self, call, words, count, folder="parts"):
        for number in range(1, count + 1):
            result = call(f"fd-metrics {words} --shard {number}/{count} -o {folder}/{number}.npy")
            assert result.code == 0, result.err

    @pytest.mark.parametrize(
        ("words", "count", "more"),
        [
            ("set.safetensors", 5, "--json --per-mesh {}.csv --samples 3"),
            ("set.safetensors --split all --align", 4, "--json --per-subject {}.csv"),
            ("set.safetensors --baselines -m {0} -m {1}", 2, "--json --per-expression {}.csv"),
        ],
    )
    def test_of_models(
        self, call, face_set, model_file, other_model_file, tmp_path, words, count, more
    ):
        words = words.format(model_file, other_model_file)
        (tmp_path / "parts").mkdir()
        self.parts(call, words, count)
        at_once = call(f"fd-metrics {words} {more.format('one')} -o one.json")
        merged = call(f"fd-metrics {words} {more.format('all')} --merge parts -o all.json")
        assert (at_once.code, merged.code) == (0, 0), merged.err
        assert merged.err == at_once.err
        for suffix in ("json", "csv"):
            one, merged = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "all"))
            assert one == merged

    def test_of_meshes(self, call, tmp_path):
        lines = ["name,subject,expression"]
        for subject in range(3):
            for expression in ("neutral", "smile"):
                name = f"s{subject}_{expression}"
                seed = len(lines)
                save_mesh(tmp_path / "truth" / f"{name}.ply", face(seed))
                save_mesh(tmp_path / "mine" / f"{name}.ply", face(seed) + np.float32(0.5))
                lines.append(f"{name},s{subject},{expression}")
        (tmp_path / "labels.csv").write_text("\n".join(lines))
        (tmp_path / "parts").mkdir()
        words = "--truth truth --predicted mine --labels labels.csv"
        self.parts(call, words, 2)
        at_once = report(call(f"fd-metrics {words} --json"))
        assert report(call(f"fd-metrics {words} --json --merge parts")) == at_once

    def test_refusals(self, call, face_set, other_model_file, tmp_path):
        (tmp_path / "parts").mkdir()
        self.parts(call, "set.safetensors", 2)
        for words, kind in (
            ("--split all --merge parts", "shards"),
            (f"-m {other_model_file} --merge parts", "shards"),
            ("--merge parts/1.npy", "shards"),
            ("--merge parts --shard 1/2", "option-conflict"),
            ("--json --shard 1/2", "option-conflict"),
            ("--check e_rec<1 --shard 1/2", "option-conflict"),
            ("--shard 1/2 -o part.json", "output-suffix"),
        ):
            assert call(["fd-metrics", "set.safetensors", *words.split()]).kind == kind, words
        whole = (tmp_path / "parts" / "2.npy").read_bytes()
        for content, kind in ((whole[:-500], "truncated"), (2 * whole, "damaged")):
            (tmp_path / "parts" / "2.npy").write_bytes(content)
            result = call("fd-metrics set.safetensors --merge parts")
            assert (result.code, result.kind) == (3, kind)
            assert "parts/2.npy" in result.line
