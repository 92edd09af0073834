"""Checks of reports, comparison with an earlier report, and JUnit XML."""

import json
from xml.etree import ElementTree

import pytest
from raising import raises

from facedis_core.evaluate.evaluation import RECOGNITION, SUMMARIES
from facedis_core.evaluate.gates import Check, EarlierReport, Tolerance, junit_xml, require_all
from facedis_core.evaluate.metrics import BETTER, GENERALITY, Summary, generality_key

REPORT = {
    "model": {
        "e_rec": {"mean": 1.25, "std": 0.5, "median": 1.0, "n": 3},
        "rank1_vertex_accuracy": 0.75,
        "e_dis": {"mean": float("nan"), "std": 0.0, "median": 0.0, "n": 1},
    },
    "baselines": {"pca": {"e_rec": {"mean": 0.5}, "components": 6}},
    "provenance": {"split": "test"},
}
FACTS = {"set": "0" * 12, "split": "test", "faces": 12, "aligned": False, "model": "1" * 12}


class TestCheck:
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
    def test_holds(self, text):
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
    def test_fails(self, text, message):
        with raises("check-failed", "1 of 1 checks failed") as caught:
            require_all([Check.parse(text)], REPORT)
        assert message in str(caught.value)

    def test_every_failure_is_named(self):
        checks = [Check.parse(text) for text in ("e_rec<1", "e_rec<2", "avd_neu<=2")]
        with raises("check-failed") as caught:
            require_all(checks, REPORT)
        assert str(caught.value) == (
            "2 of 3 checks failed: e_rec is 1.25, limit < 1; avd_neu was not measured, limit <= 2"
        )

    @pytest.mark.parametrize(
        "text",
        ["", "e_rec", "e_rec<=", "<=1", "e_rec=1", "e_rec!=1", "e_rec<=x", "e_rec<=nan",
         "e_rec<=1<=2", "e_rec =< 1", "e rec<1", "e_rec.<1", "1.2>=e_rec"],
    )  # fmt: skip
    def test_another_syntax(self, text):
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
    def test_a_mistyped_name(self, text, meant):
        with raises("option-value") as caught:
            Check.parse(text)
        assert f"did you mean {meant!r}?" in str(caught.value)

    @pytest.mark.parametrize(
        "text",
        [
            *(f"{key}<=1" for key in BETTER),
            *(f"{key}.{part}<=1" for key in ("e_rec", "e_dis") for part in Summary._fields),
            "e_no<=1",
            "provenance.faces>=100",
            "baselines.ridge_neutral.penalty<1",
            "baselines.pca.components==6",
            "models.runs/v2.5.e_rec<=1",
            "intervals.model.e_rec.high<=1",
            "differences.models.new.e_rec<=0",
        ],
    )
    def test_a_known_name_or_one_like_no_other(self, text):
        assert Check.parse(text).key == text.partition("<")[0].partition(">")[0].partition("==")[0]

    def test_as_many_digits_as_tell_value_and_limit_apart(self):
        report = {"model": {"e_rec": 1.2500000001}}
        assert Check.parse("e_rec<=1.25").failure(report) == "e_rec is 1.2500000001, limit <= 1.25"

    def test_keys_with_dots_are_followed(self):
        report = {"models": {"v2": {"e_rec": 9}, "v2.5": {"e_rec": summary(1.0)}}}
        require_all([Check.parse("models.v2.5.e_rec<=1")], report)
        require_all([Check.parse("models.v2.e_rec==9")], report)

    def test_applies_to_each_of_several_models(self):
        found = Check.parse("e_dis.median<=1").of_models(["a", "b"])
        assert [check.key for check in found] == ["models.a.e_dis.median", "models.b.e_dis.median"]
        whole = Check.parse("models.a.e_rec<=1")
        assert whole.of_models(["a", "b"]) == [whole]

    def test_reads_as_it_was_written(self):
        assert str(Check.parse(" e_rec.median <=  1.20 ")) == "e_rec.median<=1.2"


def summary(mean):
    return {"mean": mean, "std": 0.0, "median": mean, "n": 3}


def report(e_rec=1.0, accuracy=0.5, **more):
    model = {"e_rec": summary(e_rec), "rank1_vertex_accuracy": accuracy, "rank1_probes": 9}
    return {"model": model | more, "provenance": FACTS}


def test_the_table_of_directions_has_every_number_of_a_report():
    accuracies = {f"{key}_accuracy" for key in RECOGNITION}
    probes = {f"expression_from_{part}_accuracy" for part in ("identity", "expression")}
    probes.add("identity_from_expression_accuracy")
    counts = {"rank1_probes", "expression_chance", "expression_faces"}
    counts |= {"identity_from_expression_chance", "identity_from_expression_faces"}
    shape_space = {"specificity", "specificity_real", *map(generality_key, GENERALITY)}
    assert set(BETTER) == {*SUMMARIES, *accuracies, *probes, *counts, *shape_space}
    higher = {key for key, better in BETTER.items() if better == "higher"}
    assert higher == accuracies | {"expression_from_expression_accuracy"}
    assert {key for key, better in BETTER.items() if not better} == {
        *counts,
        "between_subject",
        "specificity_real",
    }


class TestTolerance:
    @pytest.mark.parametrize(
        ("text", "of_10"),
        [("2%", 0.2), ("0.02", 0.02), (" 1.5 % ", 0.15), ("0", 0), (".5", 0.5), ("1e-3", 0.001),
         ("2.%", 0.2)],
    )  # fmt: skip
    def test_is_relative_or_absolute(self, text, of_10):
        assert Tolerance.parse(text).margin(10.0) == pytest.approx(of_10)

    @pytest.mark.parametrize("text", ["", "%", "-1", "two", "nan", "inf", "1e999", "2%%", "2 mm"])
    def test_another_syntax(self, text):
        with raises("option-value"):
            Tolerance.parse(text)


class TestEarlierReport:
    @pytest.fixture
    def earlier(self, tmp_path):
        """Write a report, or any text, and read it as the earlier one."""

        def read(content):
            path = tmp_path / "old.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            return EarlierReport.read(str(path))

        return read

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
    def test_as_good(self, earlier, tolerance, new):
        require_all(earlier(report()).checks(Tolerance.parse(tolerance)), new)

    @pytest.mark.parametrize(
        ("tolerance", "new", "message"),
        [
            ("0", report(e_rec=1.01), "e_rec is 1.01, limit <= 1 (1 in {old}, tolerance 0)"),
            (
                "2%",
                report(e_rec=1.0201),
                "e_rec is 1.0201, limit <= 1.02 (1 in {old}, tolerance 2%)",
            ),
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
    def test_worse(self, earlier, tolerance, new, message, tmp_path):
        with raises("check-failed", "1 of 2 checks failed") as caught:
            require_all(earlier(report()).checks(Tolerance.parse(tolerance)), new)
        assert message.format(old=tmp_path / "old.json") in str(caught.value)

    @pytest.mark.parametrize(
        "content",
        [
            "", "{", "[]", "7", "null", "{}", "\x00", "[" * 100_000,
            '{"model": 1, "provenance": {}}', '{"model": {"e_rec": {"mean": 1}}}',
            '{"provenance": {}}', '{"model": {}, "provenance": {}, "models": []}',
            '{"model": {}, "provenance": {}, "baselines": 3}',
        ],
    )  # fmt: skip
    def test_another_kind_of_file(self, earlier, content):
        with raises("wrong-kind", r"old\.json"):
            earlier(content)

    def test_bytes_that_are_no_text(self, tmp_path):
        (tmp_path / "old.json").write_bytes(b"\xff\xfe\x00")
        with raises("wrong-kind"):
            EarlierReport.read(str(tmp_path / "old.json"))

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            "1",
            [1],
            {},
            {"mean": "1"},
            {"mean": None},
            float("nan"),
            10**400,
            -(10**400),
        ],
        ids=lambda value: repr(value)[:12],
    )
    def test_no_finite_number(self, earlier, value):
        with raises("metric-missing", r"old\.json .* e_rec"):
            earlier({"model": {"e_rec": value}, "provenance": FACTS})

    def test_nothing_to_compare(self, earlier):
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
    def test_on_other_faces(self, earlier, change, message):
        found = earlier(report())
        found.require_same(FACTS | {"model": "3" * 12, "version": "9"})
        with raises("not-comparable") as caught:
            found.require_same(FACTS | change)
        assert message in str(caught.value)


class TestJunit:
    @staticmethod
    def parsed(checks):
        return ElementTree.fromstring(junit_xml("fd-metrics", checks, REPORT))

    def test_a_case_for_each_check_with_value_and_limit_of_its_failure(self):
        checks = {
            "check": [Check.parse("e_rec<=1.2"), Check.parse("rank1_vertex_accuracy > 5e-1")],
            "against": [Check("avd_neu", "<=", 2.0, "2 in old.json, tolerance 0")],
        }
        (suite,) = root = self.parsed(checks)
        assert root.tag == "testsuites"
        assert (suite.tag, suite.get("name")) == ("testsuite", "fd-metrics")
        for element in (root, suite):
            assert (element.get("tests"), element.get("failures")) == ("3", "2")
        cases = [(case.get("classname"), case.get("name")) for case in suite]
        assert cases == [
            ("fd-metrics.check", "e_rec<=1.2"),
            ("fd-metrics.check", "rank1_vertex_accuracy>0.5"),
            ("fd-metrics.against", "avd_neu"),
        ]
        messages = [[failure.get("message") for failure in case] for case in suite]
        assert messages == [
            ["e_rec is 1.25, limit <= 1.2"],
            [],
            ["avd_neu was not measured, limit <= 2 (2 in old.json, tolerance 0)"],
        ]

    def test_no_failure(self):
        (suite,) = self.parsed({"check": [Check.parse("e_rec<=2")]})
        assert (suite.get("tests"), suite.get("failures")) == ("1", "0")
        assert not list(suite[0])

    def test_names_with_special_characters_of_xml(self):
        (suite,) = self.parsed({"against": [Check("e_rec", "<=", 1.0, "1 in <a> & \"b\" 'ü'")]})
        assert suite[0][0].get("message") == "e_rec is 1.25, limit <= 1 (1 in <a> & \"b\" 'ü')"
        raw = junit_xml("s", {"check": [Check.parse("e_rec<=2")]}, REPORT)
        assert raw.startswith(b"<?xml version='1.0' encoding='utf-8'?>\n<testsuites ")
