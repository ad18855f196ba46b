"""What a terminal shows of a report: the decision, then a table for each device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table as Drawn
from rich.text import Text

from edgeq.records import ReportRow
from edgeq.stages.report import paces, parity, profiles, searches, tables, unmeasured
from edgeq.stages.report.figures import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from edgeq.records import Artifact, Check, Report, ReportedBuild, Search, SpeedSearch

_STYLES = {"": "", "good": "green", "bad": "bold red", "open": "yellow", "dim": "dim"}


def renderable(report: Report) -> RenderableType:
    """The report for rich to print; names are plain text, never console markup or escape sequences."""
    parts: list[RenderableType] = []
    for build in report.builds:
        parts += _build(report, build)
    parts += [_indented(f"finding: {text}", "yellow") for text in report.findings]
    parts += [_indented(text, "dim") for text in report.notes]
    return Group(*parts)


def _build(report: Report, build: ReportedBuild) -> Iterator[RenderableType]:
    yield Text(printable(f"{build.model} on {build.target}"), style="dim")
    yield Text(printable(build.decision.headline), style="bold")
    yield from (_indented(fact) for fact in build.decision.evidence)
    for device, rows in tables.by_device(report, build):
        yield Text()
        yield Text(printable(tables.device_heading(device, build)), style="bold")
        yield _drawn(tables.at_a_glance(rows))
        if any(row.timing == "emulated" for row in rows):
            yield _indented("instructions per inference are a cost, not a time: an emulator's clock tells none", "dim")
        yield from (_indented(note, "dim") for note in tables.notes(rows))
        leaks = tables.growth(rows)
        if leaks is not None:
            yield Text()
            yield headed(leaks)
        yield from estimates(rows)
    recommended = tables.recommendations(build.decision.recommendations)
    if recommended.rows:
        yield Text()
        yield Text(recommended.title, style="bold")
        yield _drawn(recommended)
    for paced in paces.tables_of(build.paces):
        yield Text()
        yield headed(paced)
    for record in build.searches:
        yield Text()
        yield search(record)
    for speed in build.speed_searches:
        yield Text()
        yield speed_search(speed)
    for table in parity.tables_of(build.parity):
        yield Text()
        yield headed(table)
    yield from _limits([check for check in report.checks if check.build == build.build])
    for question in build.decision.open_questions:
        yield Text()
        yield Text(printable(question.question), style="yellow")
        yield from (_indented(command, "bold") for command in question.commands)


def _limits(checks: Sequence[Check]) -> Iterator[RenderableType]:
    """How many limits were met, and each other one with its evidence."""
    if not checks:
        return
    yield Text()
    met = sum(check.outcome == "met" for check in checks)
    yield Text(f"{met} of {len(checks)} limits met", style="bold")
    for check in checks:
        if check.outcome != "met":
            where = f" on {check.device}" if check.device else ""
            text = f"{check.outcome}: {check.limit}, {check.artifact}{where}: {check.text}"
            yield _indented(text, _STYLES["bad" if check.outcome == "missed" else "open"])


def search(record: Search) -> RenderableType:
    """What a search for a recipe tried, as a table under a heading."""
    return headed(searches.table(record))


def speed_search(record: SpeedSearch) -> RenderableType:
    """What a search for the fastest artifact considered, as a table under a heading."""
    return headed(searches.speed_table(record))


def estimates(of: Sequence[ReportRow] | Sequence[Artifact]) -> Iterator[RenderableType]:
    """What Vela expects of those that an NPU runs, as tables under a heading."""
    named = [
        (tables.artifact(one) if isinstance(one, ReportRow) else tables.Cell(text=one.name), one.estimate)
        for one in of
        if one.estimate is not None
    ]
    for table in unmeasured.estimates(named):
        yield Text()
        yield headed(table)


def operators(rows: Sequence[ReportRow]) -> Iterator[RenderableType]:
    """What the operators of each profiled artifact take, as a table under a heading."""
    return (headed(table) for row in rows if (table := profiles.table(row)) is not None)


def headed(table: tables.Table) -> RenderableType:
    """A table under its title, its note below."""
    return Group(Text(printable(table.title), style="bold"), _drawn(table), _indented(table.note), Text())


def _drawn(table: tables.Table) -> Drawn:
    drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in table.columns:
        drawn.add_column(Text(column.name), justify="right" if column.numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(_cell(cell) for cell in row))
    return drawn


def _cell(cell: tables.Cell) -> Text:
    text = Text(printable(cell.text), style=_STYLES[cell.tone])
    return text.append(f"\n{printable(cell.small)}", style="dim") if cell.small else text


def _indented(text: str, style: str = "") -> Padding:
    return Padding(Text(printable(text), style=style), (0, 0, 0, 2))
