"""Checks as JUnit XML."""

from xml.etree import ElementTree

from facedis_core.evaluate.gates import Check, junit_xml

REPORT = {"model": {"e_rec": {"mean": 1.25}, "e_dis": {"mean": 0.1}}}


def parsed(checks):
    return ElementTree.fromstring(junit_xml("fd-metrics", checks, REPORT))


def test_a_case_a_check_and_a_failure_with_value_and_limit():
    checks = {
        "check": [Check.parse("e_rec<=1.2"), Check.parse("e_dis < 2e-1")],
        "against": [Check("avd_neu", "<=", 2.0, "2 in old.json, tolerance 0")],
    }
    (suite,) = root = parsed(checks)
    assert root.tag == "testsuites"
    assert (suite.tag, suite.get("name")) == ("testsuite", "fd-metrics")
    for element in (root, suite):
        assert (element.get("tests"), element.get("failures")) == ("3", "2")
    cases = [(case.get("classname"), case.get("name")) for case in suite]
    assert cases == [
        ("fd-metrics.check", "e_rec<=1.2"),
        ("fd-metrics.check", "e_dis<0.2"),
        ("fd-metrics.against", "avd_neu<=2"),
    ]
    messages = [[failure.get("message") for failure in case] for case in suite]
    assert messages == [
        ["e_rec is 1.25, limit <= 1.2"],
        [],
        ["avd_neu was not measured, limit <= 2 (2 in old.json, tolerance 0)"],
    ]


def test_all_that_holds():
    (suite,) = parsed({"check": [Check.parse("e_rec<=2")]})
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")
    assert not list(suite[0])


def test_names_with_what_xml_is_written_with():
    (suite,) = parsed({"against": [Check("e_rec", "<=", 1.0, "1 in <a> & \"b\".json 'ü'")]})
    assert suite[0][0].get("message") == ("e_rec is 1.25, limit <= 1 (1 in <a> & \"b\".json 'ü')")
    raw = junit_xml("s", {"check": [Check.parse("e_rec<=2")]}, REPORT)
    assert raw.startswith(b"<?xml version='1.0' encoding='utf-8'?>\n<testsuites ")
