"""The tables of what an inference costs beside its time: bytes, and on an emulated board instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.stages.report import figures
from edgeq.stages.report.tables import (
    NOTHING,
    Cell,
    Column,
    Table,
    artifact,
    instructions_cell,
    memory_cell,
    size_cell,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import ReportRow

NO_TIME = (
    "No latency is shown for an emulated board: the emulator's clock says nothing about a real one. Retired "
    "instructions per inference are shown instead. They are exact, and they are a cost, not a time: they rank "
    "artifacts of one precision and catch regressions. Across precisions they say nothing about time: MobileNetV2 "
    "retires 124.2 M instructions in fp32 and 115.9 M in int8 on an emulated Cortex-A72, nearly the same, yet takes "
    "46 ms and 17 ms on a real Raspberry Pi 4 (published figures). At best: as if an inference did nothing but "
    "multiply, on vectors that are always full."
)

_ARTIFACT = Column(name="Artifact", numeric=False)


def memory(rows: Sequence[ReportRow]) -> Table:
    """Size, memory, and all that has to be pushed to run an artifact."""
    if all(row.device is None for row in rows):
        columns = (_ARTIFACT, Column(name="File size"))
        return Table(title="Files", columns=columns, rows=tuple((artifact(row), size_cell(row)) for row in rows))
    names = ("File size", "Pushed in all", "Peak memory", "Planned arena")
    return Table(
        title="Size and memory",
        columns=(_ARTIFACT, *(Column(name=name) for name in names)),
        rows=tuple(
            (
                artifact(row),
                size_cell(row),
                memory_cell(row.pushed_bytes),
                memory_cell(row.peak_rss_bytes),
                memory_cell(row.planned_bytes),
            )
            for row in rows
        ),
        note="Pushed in all: the file, the runner and its runtime.",
    )


def instructions(rows: Sequence[ReportRow]) -> tuple[Table, ...]:
    """A table for each recipe on an emulated board, as precisions do not compare; none of other devices."""
    counted = [row for row in rows if row.timing == "emulated"]
    recipes = list(dict.fromkeys(row.recipe for row in counted))
    return tuple(
        Table(
            title=f"Instructions per inference, {recipe}",
            columns=(_ARTIFACT, Column(name="Instructions"), Column(name="At best"), Column(name="Share of that")),
            rows=tuple(
                (artifact(row), instructions_cell(row), *_limit(row)) for row in counted if row.recipe == recipe
            ),
            note=NO_TIME if recipe == recipes[-1] else "",
        )
        for recipe in recipes
    )


def _limit(row: ReportRow) -> tuple[Cell, Cell]:
    if row.least_instructions is None or row.instruction_limit_share is None:
        return NOTHING, NOTHING
    return Cell(text=figures.millions(row.least_instructions)), Cell(text=figures.percent(row.instruction_limit_share))
