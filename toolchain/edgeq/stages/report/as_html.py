"""report.html: one file that asks nothing of any network, to be read, printed and forwarded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2

from edgeq.records import CalibrationData, Report, ReportedBuild, ReportedDevice, ReportRow
from edgeq.stages.report import (
    charts,
    device_tables,
    figures,
    file_tables,
    operator_chart,
    paces,
    parity,
    profiles,
    searches,
    tables,
)
from edgeq.stages.report.charts import Chart
from edgeq.stages.report.evidence import FP32, tells_time
from edgeq.stages.report.operator_chart import OperatorChart
from edgeq.stages.report.tables import Cell, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, kw_only=True)
class Card:
    """A quantized artifact at a glance."""

    name: str
    file: str
    figures: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, kw_only=True)
class DeviceSection:
    """What came from one device: clocks never mix inside it."""

    heading: str
    facts: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BuildSection:
    """One build as the template draws it."""

    build: ReportedBuild
    headline_tone: str
    cards: tuple[Card, ...]
    charts: tuple[Chart, ...]
    operators: tuple[tuple[OperatorChart, Table], ...]
    recommended: Table
    limits: Table | None
    devices: tuple[DeviceSection, ...]
    tables: tuple[Table, ...]
    provenance: tuple[tuple[str, str], ...]


def render(report: Report) -> str:
    """The report as a self-contained page; every name in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgeq.stages.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_inert,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        report=report,
        sections=[_section(report, build) for build in report.builds],
        written=figures.moment(report.created_at),
        devices=list(
            dict.fromkeys(tables.device_heading(one, build) for build in report.builds for one in build.devices)
        ),
    )


def _inert(value: Any) -> Any:  # noqa: ANN401  # whatever an expression of the template gives
    """Called by Jinja on each value before it is escaped; templates' own markup is already Markup."""
    return figures.printable(value) if type(value) is str else value


def _section(report: Report, build: ReportedBuild) -> BuildSection:
    groups = tables.by_device(report, build)
    rows = [row for _, group in groups for row in group]
    checks = [check for check in report.checks if check.build == build.build]
    more = [
        *paces.tables_of(build.paces),
        *searches.tables_of(build),
        *parity.tables_of(build.parity),
        *file_tables.estimates(rows),
        file_tables.coverage(rows),
        file_tables.undelegated(rows),
        file_tables.host_scores(rows),
    ]
    more.append(file_tables.cross_checks(build.cross_checks))
    return BuildSection(
        build=build,
        headline_tone=_tone(build.decision.headline),
        cards=_cards(rows, build.target),
        charts=_charts(groups),
        operators=tuple(_operators(rows)),
        recommended=tables.recommendations(build.decision.recommendations),
        limits=tables.limits(checks) if checks else None,
        devices=tuple(_device(device, group, build) for device, group in groups),
        tables=tuple(table for table in more if table.rows),
        provenance=_provenance(build, rows),
    )


def _operators(rows: Sequence[ReportRow]) -> Iterator[tuple[OperatorChart, Table]]:
    for row in rows:
        chart, table = operator_chart.draw(row), profiles.table(row)
        if chart is not None and table is not None:
            yield chart, table


def _tone(headline: str) -> str:
    return {"Ship": "good", "Keep": "bad"}.get(headline.split(maxsplit=1)[0], "open")


def _charts(groups: Sequence[tuple[ReportedDevice | None, list[ReportRow]]]) -> tuple[Chart, ...]:
    """Accuracy of the first device, the size of every file; clocks and counters in a chart for each device."""
    drawn = [charts.accuracy(rows) for _, rows in groups[:1]]
    drawn.append(charts.size([row for _, rows in groups for row in rows]))
    for device, rows in groups:
        drawn += [_titled(chart, device) for chart in (charts.latency(rows), *charts.instructions(rows))]
    return tuple(chart for chart in drawn if chart is not None)


def _titled(chart: Chart | None, device: ReportedDevice | None) -> Chart | None:
    if chart is None or device is None:
        return chart
    return dataclasses.replace(chart, title=f"{chart.title}, {device.name}")


def _cards(rows: Sequence[ReportRow], target: str) -> tuple[Card, ...]:
    """The first row of each quantized artifact: rows of a real board come first."""
    first: dict[str, ReportRow] = {}
    for row in rows:
        if row.recipe != FP32:
            first.setdefault(row.artifact, row)
    return tuple(_card(row, target) for row in first.values())


def _card(row: ReportRow, target: str) -> Card:
    unknown = Cell(text="cannot tell", small=f"no clock of {target} was read", tone="open")
    return Card(
        name=tables.artifact(row).text,
        file=row.artifact,
        figures=(
            ("Accuracy", tables.accuracy_cell(row)),
            ("Change against fp32", tables.change_cell(row)),
            ("Same answer as fp32", tables.agreement_cell(row, twin=True)),
            ("Speed against fp32", tables.speed_cell(row) if tells_time(row.timing, target) else unknown),
            ("File size", tables.size_cell(row)),
            ("Peak memory", tables.memory_cell(row.peak_rss_bytes)),
        ),
    )


def _device(device: ReportedDevice | None, rows: Sequence[ReportRow], build: ReportedBuild) -> DeviceSection:
    return DeviceSection(
        heading=tables.device_heading(device, build),
        facts="" if device is None else _facts(device, rows),
        tables=device_tables.of_device(device, rows, build),
        notes=tables.notes(rows),
    )


def _facts(device: ReportedDevice, rows: Sequence[ReportRow]) -> str:
    facts = device.facts
    threads = sorted({row.threads for row in rows if row.threads})
    parts = (
        "" if device.timing == "emulated" else facts.cpu,
        figures.some(facts.cores, "core") if facts.cores else "",
        figures.megabytes(facts.ram_bytes) + " RAM" if facts.ram_bytes else "",
        f"kernel {facts.kernel}" if facts.kernel else "",
        facts.libc,
        f"governor {facts.governor}" if facts.governor else "",
        "measured with " + figures.listed([figures.some(one, "thread") for one in threads]) if threads else "",
        f"last measured {figures.moment(max(row.measured_at or '' for row in rows))}",
    )
    return ", ".join(part for part in parts if part)


def _provenance(build: ReportedBuild, rows: Sequence[ReportRow]) -> tuple[tuple[str, str], ...]:
    return (
        ("Build", f"{build.build}, {figures.moment(build.created_at)}"),
        ("Evaluation", tables.samples_sentence(build, rows)),
        ("Calibration", _calibration(build.calibration)),
        ("Tools", ", ".join(f"{name} {version}" for name, version in build.tools.items())),
    )


def _calibration(calibration: CalibrationData | None) -> str:
    if calibration is None:
        return "none"
    stopped = " (the ranges stood)" if calibration.converged_after else ""
    return f"{figures.count(calibration.samples)} samples{stopped}, sha256 {calibration.sha256[:16]}"
