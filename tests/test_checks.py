"""Limits on measured numbers."""

import pytest
from raising import raises

from facedis_core.evaluate.gates import Check, require_all
from facedis_core.evaluate.metrics import BETTER, Summary

REPORT = {
    "model": {
        "e_rec": {"mean": 1.25, "std": 0.5, "median": 1.0, "n": 3},
        "rank1_vertex_accuracy": 0.75,
        "e_dis": {"mean": float("nan"), "std": 0.0, "median": 0.0, "n": 1},
    },
    "baselines": {"pca": {"e_rec": {"mean": 0.5}, "components": 6}},
    "provenance": {"split": "test"},
}


@pytest.mark.parametrize(
    "text",
    [
        "e_rec<=1.25",
        " e_rec >= 1.25 ",
        "e_rec==1.25",
        "e_rec<1.26",
        "e_rec>1",
        "e_rec.mean<1.3",
        "e_rec.median<=1",
        "e_rec.n==3",
        "model.e_rec<=2e0",
        "rank1_vertex_accuracy>=.75",
        "baselines.pca.e_rec<1",
        "baselines.pca.components==6",
    ],
)
def test_what_holds(text):
    require_all([Check.parse(text)], REPORT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("e_rec<1.25", "e_rec is 1.25, limit < 1.25"),
        ("e_rec>1.25", "e_rec is 1.25, limit > 1.25"),
        ("e_rec==1.2", "e_rec is 1.25, limit == 1.2"),
        ("e_rec.median<=0.9", "e_rec.median is 1, limit <= 0.9"),
        ("avd_neu<=2", "avd_neu was not measured, limit <= 2"),
        ("e_dis<=2", "e_dis is nan, limit <= 2"),
        ("e_dis>=0", "e_dis is nan, limit >= 0"),
        ("baselines.pca<=1", "baselines.pca was not measured"),
        ("baselines.ridge_neutral.e_dis<=1", "was not measured"),
        ("rank1_vertex_accuracy.mean>0", "was not measured"),
        ("provenance.split==1", "was not measured"),
    ],
)
def test_what_does_not_hold(text, message):
    with raises("check-failed", "1 of 1 checks failed") as caught:
        require_all([Check.parse(text)], REPORT)
    assert message in str(caught.value)


def test_every_failure_is_named():
    checks = [Check.parse(text) for text in ("e_rec<1", "e_rec<2", "avd_neu<=2")]
    with raises("check-failed") as caught:
        require_all(checks, REPORT)
    assert str(caught.value) == (
        "2 of 3 checks failed: e_rec is 1.25, limit < 1; avd_neu was not measured, limit <= 2"
    )


@pytest.mark.parametrize(
    "text",
    ["", "e_rec", "e_rec<=", "<=1", "e_rec=1", "e_rec!=1", "e_rec<=x", "e_rec<=nan", "e_rec<=1<=2",
     "e_rec =< 1", "e rec<1", "e_rec.<1", "1.2>=e_rec"],
)  # fmt: skip
def test_what_is_no_check(text):
    with raises("option-value"):
        Check.parse(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("e_recc<=1", "e_rec"),
        ("erec<=1", "e_rec"),
        ("e_dis.medain<=1", "e_dis.median"),
        ("model.e_rce<=1", "model.e_rec"),
        ("baselines.pca.avd_new<=1", "baselines.pca.avd_neu"),
        ("rank1_vertex_acuracy>=1", "rank1_vertex_accuracy"),
    ],
)
def test_a_slip_of_the_pen_is_told_before_anything_is_measured(text, meant):
    with raises("option-value") as caught:
        Check.parse(text)
    assert f"did you mean {meant!r}?" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *(f"{key}<=1" for key in BETTER),
        *(f"{key}.{part}<=1" for key in ("e_rec", "between_subject") for part in Summary._fields),
        "e_no<=1",
        "provenance.faces>=100",
        "baselines.ridge_neutral.penalty<1",
        "baselines.pca.components==6",
    ],
)
def test_a_name_that_is_known_or_like_none_is_a_check(text):
    assert Check.parse(text).key == text.partition("<")[0].partition(">")[0].partition("==")[0]


def test_as_many_digits_as_tell_value_and_limit_apart():
    report = {"model": {"e_rec": 1.2500000001}}
    assert Check.parse("e_rec<=1.25").failure(report) == ("e_rec is 1.2500000001, limit <= 1.25")


def test_a_check_reads_as_it_was_written():
    assert str(Check.parse(" e_rec.median <=  1.20 ")) == "e_rec.median<=1.2"
