"""Checks as a JUnit file, which continuous-integration services show: a test case a check."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from facedis_core.checks import Check


def junit_xml(
    suite: str, checks: Mapping[str, Sequence[Check]], report: Mapping[str, Any]
) -> bytes:
    """One test suite; a check that does not hold is a failure with value and limit.

    Args:
        suite: its name.
        checks: class name of the test cases -> their checks.
        report: what the checks look at.
    """
    cases = [(group, check) for group, members in checks.items() for check in members]
    failures = [check.failure(report) for _, check in cases]
    counts = {"tests": str(len(cases)), "failures": str(len(cases) - failures.count(None))}
    root = ElementTree.Element("testsuites", counts)
    parent = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts, "errors": "0"})
    for (group, check), failure in zip(cases, failures, strict=True):
        names = {"classname": f"{suite}.{group}", "name": str(check)}
        case = ElementTree.SubElement(parent, "testcase", names)
        if failure is not None:
            found = ElementTree.SubElement(case, "failure", {"message": failure})
            found.text = failure
    ElementTree.indent(root)
    return ElementTree.tostring(root, "utf-8", xml_declaration=True) + b"\n"
