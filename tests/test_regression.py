"""A report against an earlier one."""

import json

import pytest
from raising import raises

from facedis_core.evaluate.evaluation import RECOGNITION, SUMMARIES
from facedis_core.evaluate.gates import EarlierReport, Tolerance, require_all
from facedis_core.evaluate.metrics import BETTER

FACTS = {"set": "0" * 12, "split": "test", "faces": 12, "aligned": False, "model": "1" * 12}


def summary(mean):
    return {"mean": mean, "std": 0.0, "median": mean, "n": 3}


def report(e_rec=1.0, accuracy=0.5, **more):
    model = {"e_rec": summary(e_rec), "rank1_vertex_accuracy": accuracy, "rank1_probes": 9}
    return {"model": model | more, "provenance": FACTS}


@pytest.fixture
def earlier(tmp_path):
    """Write a report, or any text, and read it as the earlier one."""

    def read(content):
        path = tmp_path / "old.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return EarlierReport.read(str(path))

    return read


def test_the_table_names_every_number_of_a_report():
    accuracies = {f"{key}_accuracy" for key in RECOGNITION}
    told = {f"expression_from_{part}_accuracy" for part in ("identity", "expression")}
    counts = {"rank1_probes", "expression_chance", "expression_faces"}
    assert set(BETTER) == {*SUMMARIES, *accuracies, *told, *counts}
    higher = {key for key, better in BETTER.items() if better == "higher"}
    assert higher == accuracies | {"expression_from_expression_accuracy"}
    assert {key for key, better in BETTER.items() if not better} == counts | {"between_subject"}


@pytest.mark.parametrize(
    ("text", "of_10"),
    [("2%", 0.2), ("0.02", 0.02), (" 1.5 % ", 0.15), ("0", 0), (".5", 0.5), ("1e-3", 0.001),
     ("2.%", 0.2)],
)  # fmt: skip
def test_what_is_a_tolerance(text, of_10):
    assert Tolerance.parse(text).margin(10.0) == pytest.approx(of_10)


@pytest.mark.parametrize("text", ["", "%", "-1", "two", "nan", "inf", "1e999", "2%%", "2 mm"])
def test_what_is_none(text):
    with raises("option-value"):
        Tolerance.parse(text)


@pytest.mark.parametrize(
    ("tolerance", "new"),
    [
        ("0", report()),
        ("0", report(e_rec=0.1, accuracy=1.0)),  # better
        ("2%", report(e_rec=1.0199)),
        ("2%", report(accuracy=0.4901)),
        ("0.02", report(e_rec=1.0199)),
        ("0.02", report(accuracy=0.4801)),
        ("0", report(rank1_probes=2, between_subject=summary(0.1))),
        ("0", report(avd_neu=summary(99.0))),  # new, so nothing to be worse than
    ],
)
def test_what_is_as_good(earlier, tolerance, new):
    require_all(earlier(report()).checks(Tolerance.parse(tolerance)), new)


@pytest.mark.parametrize(
    ("tolerance", "new", "message"),
    [
        ("0", report(e_rec=1.01), "e_rec is 1.01, limit <= 1 (1 in {old}, tolerance 0)"),
        ("2%", report(e_rec=1.0201), "e_rec is 1.0201, limit <= 1.02 (1 in {old}, tolerance 2%)"),
        (
            "2%",
            report(accuracy=0.4899),
            "rank1_vertex_accuracy is 0.4899, limit >= 0.49 (0.5 in {old}, tolerance 2%)",
        ),
        ("0.02", report(accuracy=0.479), "rank1_vertex_accuracy is 0.479, limit >= 0.48"),
        ("9%", report(e_rec=float("nan")), "e_rec is nan, limit <= 1.09"),
        ("0", report(e_rec=1 + 2**-30), "e_rec is 1.0000000009313226, limit <= 1 "),
        (
            "9%",
            {"model": {"e_rec": summary(1.0)}},
            "rank1_vertex_accuracy was not measured, limit >= 0.455",
        ),
    ],
)
def test_what_is_worse(earlier, tolerance, new, message, tmp_path):
    with raises("check-failed", "1 of 2 checks failed") as caught:
        require_all(earlier(report()).checks(Tolerance.parse(tolerance)), new)
    assert message.format(old=tmp_path / "old.json") in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "7", "null", "{}", "\x00", "[" * 100_000, '{"model": 1, "provenance": {}}',
        '{"model": {"e_rec": {"mean": 1}}}', '{"provenance": {}}',
    ],
)  # fmt: skip
def test_what_is_no_report(earlier, content):
    with raises("wrong-kind", r"old\.json"):
        earlier(content)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "old.json").write_bytes(b"\xff\xfe\x00")
    with raises("wrong-kind"):
        EarlierReport.read(str(tmp_path / "old.json"))


@pytest.mark.parametrize(
    "value",
    [None, True, "1", [1], {}, {"mean": "1"}, {"mean": None}, float("nan"), 10**400, -(10**400)],
)
def test_a_number_that_is_none(earlier, value):
    with raises("metric-missing", r"old\.json .* e_rec"):
        earlier({"model": {"e_rec": value}, "provenance": FACTS})


def test_nothing_to_compare(earlier):
    with raises("metric-missing"):
        earlier({"model": {"rank1_probes": 3, "unknown": 1}, "provenance": FACTS})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"set": "2" * 12}, "is a report on set 000000000000, this one is on set 222222222222"),
        ({"split": "all"}, "is a report on split test, this one is on split all"),
        ({"faces": 13}, "is a report on 12 faces, this one is on 13 faces"),
        ({"aligned": True}, "on predictions as they are, this one is on aligned predictions"),
        ({"set": None}, "this one is on no set"),
    ],
)
def test_reports_on_other_faces_do_not_compare(earlier, change, message):
    found = earlier(report())
    found.require_same(FACTS | {"model": "3" * 12, "version": "9"})
    with raises("not-comparable") as caught:
        found.require_same(FACTS | change)
    assert message in str(caught.value)
