"""Which tables a report has of one device, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.stages.report import classes, costs, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import ReportedBuild, ReportedDevice, ReportRow
    from edgeq.stages.report.tables import Table


def of_device(device: ReportedDevice | None, rows: Sequence[ReportRow], build: ReportedBuild) -> tuple[Table, ...]:
    """The tables of one device: no table holds two clocks, or a clock and a counter."""
    if device is None:
        return (costs.memory(rows),)
    found = (
        tables.accuracy(rows, _judged(build, rows)),
        classes.table(rows),
        tables.time(rows, build.target),
        tables.starting(rows),
        tables.threads(rows),
        costs.memory(rows),
        *costs.instructions(rows),
        tables.growth(rows),
    )
    return tuple(table for table in found if table is not None and table.rows)


def _judged(build: ReportedBuild, rows: Sequence[ReportRow]) -> str:
    """How many samples stand behind the figures, and how many it takes to see a drop."""
    needed = [row.samples_needed for row in rows if row.samples_needed is not None]
    found = f" {classes.needed_sentence(max(needed, key=lambda one: one.usually))}." if needed else ""
    return tables.samples_sentence(build, rows) + found
