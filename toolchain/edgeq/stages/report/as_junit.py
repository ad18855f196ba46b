"""junit.xml: a test case for each limit, so that a CI shows what was missed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from edgeq.stages.report.figures import printable

if TYPE_CHECKING:
    from edgeq.records import Report


def render(report: Report) -> str:
    """The limits as JUnit XML: missed is a failure, "cannot tell" is skipped with its reason.

    A report whose projects set no limits has one passed case that says so,
    as an empty file is an error to many a CI.
    """
    root = ET.Element("testsuites", name="edgeq")
    for build in report.builds:
        checks = [check for check in report.checks if check.build == build.build]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=printable(f"{build.model} on {build.target}"),
            tests=str(len(checks) or 1),
            failures=str(sum(check.outcome == "missed" for check in checks)),
            skipped=str(sum(check.outcome == "cannot tell" for check in checks)),
            errors="0",
            timestamp=report.created_at,
        )
        for check in checks:
            where = f" on {check.device}" if check.device else ""
            case = ET.SubElement(
                suite,
                "testcase",
                classname=printable(f"{build.model}.{build.target}"),
                name=printable(f"{check.limit}: {check.artifact}{where}"),
                time="0",
            )
            text = printable(check.text)
            if check.outcome == "missed":
                ET.SubElement(case, "failure", message=text, type="LimitError")
            elif check.outcome == "cannot tell":
                ET.SubElement(case, "skipped", message=f"cannot tell: {text}")
            else:
                ET.SubElement(case, "system-out").text = text
        if not checks:
            ET.SubElement(suite, "testcase", classname="edgeq", name="the project sets no limits", time="0")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
