"""What a terminal shows of a comparison: one row a pair, and what has to be known beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from edgeq.stages.report import figures
from edgeq.stages.report.figures import printable
from edgeq.stages.report.tables import Cell, Column, Table
from edgeq.stages.report.terminal import headed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from edgeq.records import ComparedSide, Comparison
    from edgeq.stages.compare import Compared
    from edgeq.stages.report.tables import Tone

_TONES: dict[str, Tone] = {"faster": "good", "fewer": "good", "slower": "bad", "more": "bad", "cannot tell": "open"}
_NUMERIC = range(1, 4)


def renderable(compared: Compared) -> RenderableType:
    """The table of the pairs, those without a counterpart, and why nothing can be told where that is so."""
    parts: list[RenderableType] = [headed(_table(compared.comparisons))]
    parts += [Text(printable(note), style="yellow") for note in _notes(compared)]
    return Group(*parts)


def _table(rows: tuple[Comparison, ...]) -> Table:
    emulated = any(row.timing == "emulated" for row in rows)
    unit = "Instructions" if emulated else "Median"
    names = ("Artifact", f"{unit}, reference", f"{unit}, candidate", "Ratio", "Verdict")
    return Table(
        title=f"{rows[0].reference.build} against {', '.join(dict.fromkeys(row.candidate.build for row in rows))}"
        f" on {rows[0].device}",
        columns=tuple(Column(name=name, numeric=index in _NUMERIC) for index, name in enumerate(names)),
        rows=tuple(_row(row) for row in rows),
        note="instructions per inference are a cost, not a time; candidate over reference: below 1 are fewer"
        if emulated
        else "reference over candidate: above 1, the candidate is faster",
    )


def _row(row: Comparison) -> tuple[Cell, ...]:
    if row.timing == "emulated":
        ratio = figures.NOTHING if row.instructions_ratio is None else f"{row.instructions_ratio:.4f}"
        return (
            Cell(text=row.artifact, small=_from(row)),
            Cell(text=_instructions(row.reference)),
            Cell(text=_instructions(row.candidate)),
            Cell(text=ratio),
            Cell(text=row.cost, tone=_TONES.get(row.cost, "")),
        )
    interval = f"{row.low:.4f} to {row.high:.4f}" if row.low is not None and row.high is not None else ""
    seen = "" if row.smallest_effect is None else f"would show {100 * row.smallest_effect:.2g} %"
    same = f" within {100 * row.same_within:g} %" if row.verdict == "same" else ""
    threads = figures.some(row.threads, "thread")
    return (
        Cell(text=row.artifact, small="; ".join(filter(None, (_from(row), threads)))),
        Cell(text=_median(row.reference)),
        Cell(text=_median(row.candidate)),
        Cell(text=figures.NOTHING if row.ratio is None else f"{row.ratio:.4f}", small=interval),
        Cell(text=row.verdict + same, small=seen, tone=_TONES.get(row.verdict, "")),
    )


def _from(row: Comparison) -> str:
    """The reference, where it has another name."""
    return "" if row.reference.artifact == row.artifact else f"against {row.reference.artifact}"


def _median(side: ComparedSide) -> str:
    return figures.NOTHING if side.p50_ms is None else figures.ms(side.p50_ms)


def _instructions(side: ComparedSide) -> str:
    return figures.NOTHING if side.instructions is None else f"{side.instructions / 1e6:.3f} M"


def _notes(compared: Compared) -> Iterator[str]:
    rows = compared.comparisons
    yield from dict.fromkeys(f"no time can be told: {row.reason}" for row in rows if row.timing == "emulated")
    timed = [row for row in rows if row.timing != "emulated"]
    for reason in dict.fromkeys(row.reason for row in timed if row.reason):
        named = ", ".join(row.artifact for row in timed if row.reason == reason)
        yield f"cannot tell of {named}: {reason}; more --repeats help"
    restless = [row.artifact for row in timed if None in {row.reference.steady_after, row.candidate.steady_after}]
    if restless:
        yield f"no steady state was seen of {', '.join(restless)}"
    yield from dict.fromkeys(f"the device was not fit: {reason}" for row in rows for reason in row.unfit)
    if any(row.test_faults for row in rows):
        yield "a runner built for tests was measured: nothing may be decided by it"
    yield from (f"left out: {one}" for one in compared.left_out)
