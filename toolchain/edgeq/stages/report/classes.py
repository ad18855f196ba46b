"""Which classes lose right answers, and how many samples a drop takes to be seen: cells and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.stages.report import figures
from edgeq.stages.report.evidence import CHANCE, WORST_CLASSES
from edgeq.stages.report.tables import Cell, Column, Table, artifact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import ClassChange, ReportRow, SamplesNeeded
    from edgeq.stages.report.tables import Tone


def table(rows: Sequence[ReportRow]) -> Table:
    """The classes that lose most, a few for each artifact; without rows where none loses."""
    body: list[tuple[Cell, ...]] = []
    for row in rows:
        if row.class_changes is not None and row.class_changes.worst:
            body += [_row(row, one, first=not index) for index, one in enumerate(row.class_changes.worst)]
    return Table(
        title="Classes that lose right answers",
        columns=(
            Column(name="Artifact", numeric=False),
            Column(name="Class"),
            Column(name="Samples"),
            Column(name="Lost"),
            Column(name="Gained"),
            Column(name="p"),
        ),
        rows=tuple(body),
        note=f"The {WORST_CLASSES} that lose most against fp32 on the same samples, for each artifact. p: McNemar, "
        "exact, corrected for all classes that were looked at (Holm): 0.05 or less is more than chance.",
    )


def needed_sentence(needed: SamplesNeeded) -> str:
    """How many labelled samples such a drop takes."""
    return (
        f"{figures.count(needed.usually)} labelled samples would find a drop of {needed.drop_pp:g} pp four times of "
        f"five (taking {figures.percent(needed.differing)} of them to be right in one of the two files alone), "
        f"{figures.count(needed.at_best)} could at best"
    )


def changes_sentence(row: ReportRow) -> str:
    """How many classes lose, and how many of them by more than chance; empty where nobody can tell."""
    found = row.class_changes
    if found is None:
        return ""
    return (
        f"{figures.count(found.worse)} of {figures.some(found.classes, 'class', 'classes')} lose right answers, "
        f"{figures.count(found.significant)} by more than chance"
    )


def _row(row: ReportRow, one: ClassChange, *, first: bool) -> tuple[Cell, ...]:
    # A class that lost by more than chance is marked: of the others most are noise.
    tone: Tone = "bad" if one.p_value <= CHANCE else ""
    head = artifact(row)
    return (
        Cell(text=head.text, small=changes_sentence(row)) if first else Cell(text=""),
        Cell(text=str(one.label)),
        Cell(text=figures.count(one.samples)),
        Cell(text=figures.count(one.lost)),
        Cell(text=figures.count(one.gained)),
        Cell(text=figures.p_value(one.p_value), tone=tone),
    )
