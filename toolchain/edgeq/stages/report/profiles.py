"""What the operators of an artifact take: the largest first, and what profiling itself costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq import stats
from edgeq.records import ProfilingCost, ReportedOperator, ReportedProfile
from edgeq.stages.report import figures
from edgeq.stages.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.records import Measurement, OpTime, ReportRow

_SHOWN = 12
_KINDS = (("delegate call", "calls of the delegate"), ("unattributed", "in no operator"))
_NOT_COUNTED = (
    "its operators' instructions cannot be told: the runtime's profiler works inside of what it times, "
    "and an emulator's clock says nothing of a board"
)


def reported(measured: Measurement) -> ReportedProfile | None:
    """The profile of a row, in what may be said of its device; None if it was not profiled."""
    if not measured.ops:
        return None
    counted = any(op.instructions is not None for op in measured.ops)
    emulated = measured.timing == "emulated"
    return ReportedProfile(
        unit=("instructions" if counted else None) if emulated else "ns",
        ops=tuple(_reported(op, op.instructions if emulated else op.ns) for op in measured.ops),
        inferences=len(measured.profiled_ns),
        cost=_instructions_added(measured) if emulated else _time_added(measured),
        missing=_NOT_COUNTED if emulated and not counted else "",
    )


def _reported(op: OpTime, amount: int | None) -> ReportedOperator:
    return ReportedOperator(
        name=op.name,
        kernel=op.kernel,
        kind=op.kind,
        node=op.node,
        module=op.module,
        source=op.source,
        amount=amount,
    )


def figure(value: int, profile: ReportedProfile) -> str:
    """So much of the profile's unit, as a person reads it."""
    if profile.unit == "ns":
        return figures.ms(value / 1e6)
    return figures.millions(value) if value >= figures.MILLION else figures.thousands(value)


def table(row: ReportRow) -> Table | None:
    """The operators that take most; None where it was not profiled, or nobody knows what they take."""
    profile = row.profile
    if profile is None or profile.unit is None:
        return None
    column = "Time" if profile.unit == "ns" else "Instructions"
    return Table(
        title=f"Operators of {row.artifact} on {row.device}",
        columns=(
            Column(name="Operator", numeric=False),
            Column(name="In the model", numeric=False),
            Column(name=column),
            Column(name="Share"),
        ),
        rows=tuple(_rows(profile)),
        note=note(profile),
    )


def label(op: ReportedOperator) -> str:
    """What a person calls an operator."""
    return op.name or dict(_KINDS).get(op.kind, "")


def _rows(profile: ReportedProfile) -> Iterator[tuple[Cell, ...]]:
    total = sum((op.amount or 0) for op in profile.ops) or 1

    def row(name: str, taken: int, op: ReportedOperator | None = None) -> tuple[Cell, ...]:
        kernel = op.kernel if op and op.kernel and not name.startswith(op.kernel) else ""
        return (
            Cell(text=name, small=kernel),
            Cell(text=(op.source or op.module or op.node) if op else ""),
            Cell(text=figure(taken, profile)),
            Cell(text=figures.percent(taken / total)),
        )

    operators = sorted((op for op in profile.ops if op.kind == "operator"), key=lambda op: -(op.amount or 0))
    rest = operators[_SHOWN:]
    yield from (row(op.name, (op.amount or 0), op) for op in operators[:_SHOWN])
    if rest:
        yield row(figures.some(len(rest), "more operator"), sum((op.amount or 0) for op in rest))
    for kind, told in _KINDS:
        taken = sum((op.amount or 0) for op in profile.ops if op.kind == kind)
        if taken:
            yield row(told, taken)


def _time_added(measured: Measurement) -> ProfilingCost | None:
    """From inferences in turn with the profiled ones; None in a row of an edgeq that timed none."""
    if not measured.unprofiled_ns or not measured.profiled_rounds:
        return None
    watched, alone = (
        stats.split_rounds(samples, measured.profiled_rounds)
        for samples in (measured.profiled_ns, measured.unprofiled_ns)
    )
    found = stats.median_ratio(watched, alone)
    return ProfilingCost(ratio=found.ratio, low=found.low, high=found.high, of="time")


def _instructions_added(measured: Measurement) -> ProfilingCost | None:
    if not measured.instructions or measured.profiled_instructions is None:
        return None
    return ProfilingCost(
        ratio=measured.profiled_instructions / measured.instructions, low=None, high=None, of="instructions"
    )


def note(profile: ReportedProfile) -> str:
    """What it was taken from, and what profiling itself costs."""
    told = f"From {figures.some(profile.inferences, 'profiled inference')}, apart from those that are measured"
    cost = profile.cost
    if cost is None:
        return f"{told}; what profiling adds was not measured."
    reach = "" if cost.low is None or cost.high is None else f" (95 %: {_added(cost.low)} to {_added(cost.high)} %)"
    counted = ". What no operator holds includes the calls of the delegate" if profile.unit == "instructions" else ""
    return f"{told}; profiling adds {_added(cost.ratio)} % to the {cost.of} of one{reach}{counted}."


def _added(ratio: float) -> str:
    return figures.signed(100 * (ratio - 1), 1)
