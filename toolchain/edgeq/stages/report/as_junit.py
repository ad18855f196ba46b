"""junit.xml: a test case for each limit, and for each comparison of devices, so that a CI shows what was missed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from edgeq.stages.report import parity
from edgeq.stages.report.figures import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import Report


def render(report: Report) -> str:
    """The limits as JUnit XML: missed is a failure, "cannot tell" is skipped with its reason; divergence is a failure.

    A report whose projects set no limits has one passed case that says so,
    as an empty file is an error to many a CI.
    """
    root = ET.Element("testsuites", name="edgeq")
    for build in report.builds:
        checks = [check for check in report.checks if check.build == build.build]
        suite = add_suite(
            root,
            f"{build.model} on {build.target}",
            [
                Case(
                    name=f"{check.limit}: {check.artifact}" + (f" on {check.device}" if check.device else ""),
                    failed=check.outcome == "missed",
                    untold=check.outcome == "cannot tell",
                    text=check.text,
                )
                for check in checks
            ],
            classname=f"{build.model}.{build.target}",
            timestamp=report.created_at,
        )
        compared = [
            Case(name=what, failed=not fine, untold=False, text=text)
            for what, fine, text in parity.outcomes(build.parity)
        ]
        if compared:
            name = f"{build.model}.{build.target}.parity"
            title = f"{build.model} on {build.target}: the same on every device"
            add_suite(root, title, compared, classname=name, timestamp=build.parity.created_at if build.parity else "")
        if not checks:
            suite.set("tests", "1")
            ET.SubElement(suite, "testcase", classname="edgeq", name="the project sets no limits", time="0")
    return as_text(root)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A test case: passed, ``failed``, or ``untold`` (skipped, "cannot tell"), and the evidence in a sentence."""

    name: str
    failed: bool
    untold: bool
    text: str


def add_suite(root: ET.Element, name: str, cases: Sequence[Case], *, classname: str, timestamp: str) -> ET.Element:
    """A suite with those cases in ``root``."""
    suite = ET.SubElement(
        root,
        "testsuite",
        name=printable(name),
        tests=str(len(cases)),
        failures=str(sum(case.failed for case in cases)),
        skipped=str(sum(case.untold and not case.failed for case in cases)),
        errors="0",
        timestamp=timestamp,
    )
    for case in cases:
        made = ET.SubElement(suite, "testcase", classname=printable(classname), name=printable(case.name), time="0")
        text = f"cannot tell: {printable(case.text)}" if case.untold else printable(case.text)
        if case.failed:
            ET.SubElement(made, "failure", message=text, type="LimitError")
        elif case.untold:
            ET.SubElement(made, "skipped", message=text)
        else:
            ET.SubElement(made, "system-out").text = text
    return suite


def as_text(root: ET.Element) -> str:
    """The document, indented."""
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
