"""report.md: short enough for a pull request, with tables that align in the source too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeq.stages.report import device_tables, file_tables, paces, parity, profiles, searches, tables
from edgeq.stages.report.figures import moment, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.records import Report, ReportedBuild
    from edgeq.stages.report.tables import Cell, Table

_MARKUP = re.compile(r"([\\`*\[\]|~$])|(?<!\w)(_)|(_)(?!\w)")
"""What Markdown reads as markup anywhere; an underscore inside a word is only itself."""

_AT_THE_START = re.compile(r"^(\s*)([#+>=-]|\d+(?=[.)]\s))")
"""What begins a heading, a list or a quotation."""


def render(report: Report) -> str:
    """The report as GitHub-flavoured Markdown; nothing in a name can become markup."""
    lines = [f"# {safe(report.model)} on {safe(report.target)}", ""]
    for build in report.builds:
        if len(report.builds) > 1:
            lines += [f"## {safe(build.model)} on {safe(build.target)} (`{_code(build.build)}`)", ""]
        lines += _build(report, build)
    lines += _bullets("Findings", report.findings)
    lines += _bullets("Notes", report.notes)
    lines.append(f"Written by edgeq, {moment(report.created_at)}.")
    return "\n".join(lines) + "\n"


def _build(report: Report, build: ReportedBuild) -> Iterator[str]:
    yield from (f"**{safe(build.decision.headline)}**", "")
    if build.decision.evidence:
        yield from (*(f"- {safe(fact)}" for fact in build.decision.evidence), "")
    for question in build.decision.open_questions:
        yield from (f"> **Open:** {safe(question.question)}", "")
        if question.commands:
            yield from ("```sh", *(printable(command) for command in question.commands), "```", "")
    checks = [check for check in report.checks if check.build == build.build]
    for table in (tables.recommendations(build.decision.recommendations), tables.limits(checks)):
        yield from table_lines(table) if table.rows else ()
    groups = tables.by_device(report, build)
    for device, rows in groups:
        yield from (f"### {safe(tables.device_heading(device, build))}", "")
        for table in device_tables.of_device(device, rows, build):
            yield from table_lines(table)
        yield from (f"- {safe(note)}" for note in tables.notes(rows))
    rows = [row for _, group in groups for row in group]
    yield from table_lines(file_tables.coverage(rows))
    shown = (
        *file_tables.estimates(rows),
        *paces.tables_of(build.paces),
        *searches.tables_of(build),
        *parity.tables_of(build.parity),
    )
    for table in shown:
        yield from table_lines(table)
    more = [file_tables.undelegated(rows), file_tables.host_scores(rows), file_tables.cross_checks(build.cross_checks)]
    operators = [taken for row in rows if (taken := profiles.table(row)) is not None]
    yield from ("<details><summary>Operators, undelegated nodes, build machine, cross-checks</summary>", "")
    for table in (*operators, *more):
        if table.rows:
            yield from table_lines(table)
    yield from ("</details>", "")


def table_lines(table: Table) -> Iterator[str]:
    """A table whose columns line up in the source, its title above and its note below."""
    head = [safe(column.name) for column in table.columns]
    body = [[_cell(cell) for cell in row] for row in table.rows]
    widths = [max(3, *(len(row[index]) for row in [head, *body])) for index in range(len(head))]
    numeric = [column.numeric for column in table.columns]
    yield from (f"#### {table.title}", "")
    yield _line(head, widths, numeric)
    rule = ("-" * (width + 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True))
    yield f"|{'|'.join(rule)}|"
    yield from (_line(row, widths, numeric) for row in body)
    yield ""
    if table.note:
        yield from (safe(table.note), "")


def _line(cells: list[str], widths: list[int], numeric: list[bool]) -> str:
    padded = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return "| " + " | ".join(padded) + " |"


def _cell(cell: Cell) -> str:
    small = f"<br><sub>{safe(cell.small)}</sub>" if cell.small else ""
    text = safe(cell.text)
    return (f"**{text}**" if cell.tone in {"bad", "good"} else text) + small


def _bullets(title: str, items: tuple[str, ...]) -> Iterator[str]:
    if items:
        yield from (f"### {title}", "", *(f"- {safe(item)}" for item in items), "")


def safe(text: str) -> str:
    """The text with everything disarmed that Markdown, HTML or GitHub's links and mentions would act on."""
    inert = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    inert = _AT_THE_START.sub(_escaped_start, _MARKUP.sub(lambda found: f"\\{found[0]}", inert))
    return inert.replace("://", ":\u200b//").replace("www.", "www\u200b.").replace("@", "@\u200b")


def _escaped_start(found: re.Match[str]) -> str:
    indent, mark = found.groups()
    return f"{indent}{mark}\u200b" if mark.isdigit() else f"{indent}\\{mark}"


def _code(text: str) -> str:
    return printable(text).replace("`", "'")
