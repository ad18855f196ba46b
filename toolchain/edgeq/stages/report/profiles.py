"""What the operators of an artifact take, as a table: the largest first, and what profiling itself costs."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from edgeq import stats
from edgeq.stages.report import figures
from edgeq.stages.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from edgeq.records import Measurement, OpTime

_SHOWN = 12
_COLUMNS = (
    Column(name="Operator", numeric=False),
    Column(name="In the model", numeric=False),
    Column(name="Time"),
    Column(name="Share"),
)


def table(row: Measurement) -> Table:
    """The operators that take most; the row is one that was profiled."""
    total = sum(op.ns for op in row.ops) or 1
    operators = sorted((op for op in row.ops if op.kind == "operator"), key=lambda op: -op.ns)
    rest = operators[_SHOWN:]
    rows = [_row(op.name, _where(op), op.ns, total, kernel=op.kernel) for op in operators[:_SHOWN]]
    if rest:
        rows.append(_row(figures.some(len(rest), "more operator"), "", sum(op.ns for op in rest), total))
    for kind, told in (("delegate call", "calls of the delegate"), ("unattributed", "in no operator")):
        ns = sum(op.ns for op in row.ops if op.kind == kind)
        if ns:
            rows.append(_row(told, "", ns, total))
    return Table(
        title=f"Operators of {row.artifact} on {row.device}", columns=_COLUMNS, rows=tuple(rows), note=_note(row)
    )


def overhead(row: Measurement) -> float | None:
    """How much longer a profiled inference takes than a timed one, as a share; None without both."""
    if not row.profiled_ns or not row.latencies_ns:
        return None
    return stats.interquartile_mean(row.profiled_ns) / statistics.median(row.latencies_ns) - 1


def _note(row: Measurement) -> str:
    if row.timing == "emulated":
        return f"{len(row.profiled_ns)} profiled inferences by an emulator's clock: they say nothing of a board."
    added = overhead(row)
    told = "" if added is None else f"; profiling adds {100 * added:.0f} % to what a timed one takes"
    return f"From {len(row.profiled_ns)} profiled inferences, apart from the timed ones{told}."


def _where(op: OpTime) -> str:
    return op.source or op.module or op.node


def _row(name: str, where: str, ns: int, total: int, *, kernel: str = "") -> tuple[Cell, ...]:
    return (
        Cell(text=name, small=kernel if kernel and not name.startswith(kernel) else ""),
        Cell(text=where),
        Cell(text=figures.ms(ns / 1e6)),
        Cell(text=figures.percent(ns / total)),
    )
