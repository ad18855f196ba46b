"""Latencies at another pace: single shots, and samples that arrive at a rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.records import PacedRow
from edgeq.stages.report import conditions, figures, tables
from edgeq.stages.report.evidence import is_sound
from edgeq.stages.report.latencies import interval_ms, percentile_ms
from edgeq.stages.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import Manifest, Measurement

OVERLOADED = 0.95
"""From this share of the time on the device has no room left to catch up in."""


def rows_of(manifest: Manifest, measurements: Sequence[Measurement]) -> tuple[PacedRow, ...]:
    """The newest row of each artifact, device and pace, of files that are in the build."""
    current = {artifact.name: artifact.sha256 for artifact in manifest.artifacts}
    newest: dict[tuple[object, ...], Measurement] = {}
    for row in sorted(measurements, key=lambda row: row.started_at):
        of_a_file = current.get(row.artifact) == row.artifact_sha256
        if row.mode != "back-to-back" and of_a_file and row.latencies_ns and is_sound(row):
            newest[row.device, row.mode, row.pause_ms, row.rate_hz, row.arrivals, row.artifact] = row
    return tuple(_row(one) for one in newest.values())


def tables_of(rows: Sequence[PacedRow]) -> tuple[Table, ...]:
    """One for each device and pace, which is what may be compared."""
    groups: dict[tuple[str, str], list[PacedRow]] = {}
    for row in rows:
        groups.setdefault((row.device, _pace(row)), []).append(row)
    return tuple(_table(device, pace, group) for (device, pace), group in groups.items())


def _row(measured: Measurement) -> PacedRow:
    times = measured.latencies_ns
    running = sum(measured.executions_ns or times)
    busy = running / sum(measured.spans_ns) if sum(measured.spans_ns) else None
    return PacedRow(
        artifact=measured.artifact,
        device=measured.device,
        timing=measured.timing,
        mode=measured.mode,
        pause_ms=measured.pause_ms,
        rate_hz=measured.rate_hz,
        arrivals=measured.arrivals,
        threads=measured.threads,
        runs=len(times),
        p50_ms=percentile_ms(measured, 50),
        p90_ms=percentile_ms(measured, 90),
        p99_ms=percentile_ms(measured, 99),
        ci95_ms=interval_ms(measured, 50),
        p90_ci95_ms=interval_ms(measured, 90),
        p99_ci95_ms=interval_ms(measured, 99),
        busy_share=busy,
        measured_at=measured.started_at,
        notes=tuple(_notes(measured, busy)),
    )


def _notes(measured: Measurement, busy: float | None) -> Iterator[str]:
    if measured.mode == "at-rate" and busy is not None and busy >= OVERLOADED:
        yield (
            f"it cannot keep up with {measured.rate_hz:g} samples a second: the queue grows, and the latencies with it"
        )
    yield from conditions.notes(measured)


def _table(device: str, pace: str, rows: Sequence[PacedRow]) -> Table:
    names = ("Threads", "Runs", "Median latency", "p90", "p99", "Busy")
    queue = "A latency counts from when the sample arrived, so the wait for those before it is in it. "
    queue = queue if rows[0].mode == "at-rate" else ""
    notes = "".join(f" {note}." for note in tables.notes(rows))
    return Table(
        title=f"{pace}, on {device}",
        columns=(Column(name="Artifact", numeric=False), *(Column(name=name) for name in names)),
        rows=tuple(_cells(row) for row in rows),
        note=f"{queue}Busy is the part of the time that an inference ran.{notes}",
    )


def _cells(row: PacedRow) -> tuple[Cell, ...]:
    return (
        Cell(text=row.artifact),
        Cell(text=figures.count(row.threads)),
        Cell(text=figures.count(row.runs)),
        tables.latency_cell(row.p50_ms, row.ci95_ms),
        tables.latency_cell(row.p90_ms, row.p90_ci95_ms),
        tables.latency_cell(row.p99_ms, row.p99_ci95_ms),
        Cell(
            text=figures.NOTHING if row.busy_share is None else figures.percent(min(row.busy_share, 1.0)),
            tone="bad" if row.busy_share is not None and row.busy_share >= OVERLOADED else "",
        ),
    )


def _pace(row: PacedRow) -> str:
    if row.mode == "single-shot":
        return f"Single shots, {row.pause_ms} ms apart"
    how = "evenly" if row.arrivals == "even" else "at random"
    return f"Samples that arrive {how}, {row.rate_hz:g} a second"
