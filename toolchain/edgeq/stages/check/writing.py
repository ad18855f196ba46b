"""A check for a pull request (check.md), a CI (check.xml, JUnit) and a script (check.json)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

from edgeq.files import write_text
from edgeq.schema import to_json
from edgeq.stages.check.items import headline, items, parted, table
from edgeq.stages.report.as_junit import Case, add_suite, as_text
from edgeq.stages.report.as_markdown import safe, table_lines
from edgeq.stages.report.figures import moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeq.records import CheckResult

CheckFormat = Literal["md", "junit", "json"]

_FILES: dict[CheckFormat, str] = {"md": "check.md", "junit": "check.xml", "json": "check.json"}

_SHORT = 12
"""Rows of the table that a pull request shows at once."""


def write(result: CheckResult, formats: Sequence[CheckFormat], out: Path) -> tuple[Path, ...]:
    """Write a check into the folder ``out`` in each of ``formats``; each file is replaced as a whole."""
    files = []
    for form in dict.fromkeys(formats):
        path = out / _FILES[form]
        write_text(path, _text(result, form))
        files.append(path)
    return tuple(files)


def _text(result: CheckResult, form: CheckFormat) -> str:
    if form == "md":
        return as_markdown(result)
    return as_junit(result) if form == "junit" else to_json(result, indent=2) + "\n"


def as_markdown(result: CheckResult) -> str:
    """A headline, the worst of it in a short table, and everything below a fold."""
    found = items(result.limits, result.changes)
    notable, _ = parted(found)
    lines = [f"### edgeq check: {safe(f'{result.model} on {result.target}')}", "", f"**{safe(headline(result))}**", ""]
    if result.against:
        lines += [safe(f"against {result.against}"), ""]
    if notable:
        lines += table_lines(table("What stands out", notable[:_SHORT]))
    if len(notable) > _SHORT:
        lines += [f"{len(notable) - _SHORT} more are below.", ""]
    if found:
        lines += [f"<details><summary>All {len(found)} outcomes</summary>", "", *table_lines(table("Outcomes", found))]
        lines += ["</details>", ""]
    lines += [f"- {safe(note)}" for note in result.notes]
    lines.append(f"Written by edgeq, {moment(result.checked_at)}.")
    return "\n".join(lines) + "\n"


def as_junit(result: CheckResult) -> str:
    """A test case for each artifact and limit or figure: failed, skipped where nobody can tell, or passed."""
    root = ET.Element("testsuites", name="edgeq check")
    cases = [
        Case(
            name=f"{item.what}: {item.where}",
            failed=item.fails(strict=result.strict),
            untold=item.outcome == "cannot tell",
            text=item.text,
        )
        for item in items(result.limits, result.changes)
    ]
    add_suite(
        root,
        f"{result.model} on {result.target}",
        cases,
        classname=f"{result.model}.{result.target}",
        timestamp=result.checked_at,
    )
    return as_text(root)
