"""The geometry of the chart of operators: a bar for each module of the user's model, cut into its operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.stages.report import figures, profiles
from edgeq.stages.report.charts import Tick, axis_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.records import ReportedOperator, ReportedProfile, ReportRow

_MOST_BARS = 24
"""Modules inside of others are drawn together until there are no more bars than this."""

_ADDED = "(the runtime's own)"
_WHOLE = "(the model)"
_NOWHERE = "(in no operator)"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One operator: where its part of the bar begins and how wide it is, in per cent of the track, and what it is."""

    at: float
    width: float
    title: str


@dataclass(frozen=True, kw_only=True)
class ModuleBar:
    """What the operators of one module take together; ``value`` as a person reads it."""

    label: str
    value: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, kw_only=True)
class OperatorChart:
    """Bars in the order of execution, on one axis."""

    title: str
    bars: tuple[ModuleBar, ...]
    ticks: tuple[Tick, ...]
    note: str


def draw(row: ReportRow) -> OperatorChart | None:
    """The chart of a row; None where it was not profiled, or nobody knows what its operators take."""
    profile = row.profile
    if profile is None or profile.unit is None:
        return None
    groups: dict[str, list[ReportedOperator]] = {}
    depth = _depth(profile.ops)
    for op in profile.ops:
        groups.setdefault(_module(op, depth), []).append(op)
    totals = {name: sum(_drawn(op) for op in ops) for name, ops in groups.items()}
    total = sum(totals.values()) or 1
    scale, unit = _scale(max(totals.values()), profile)
    axis = axis_of(max(totals.values()) / scale, unit)
    bars = tuple(
        ModuleBar(
            label=name,
            value=f"{profiles.figure(totals[name], profile)}, {figures.percent(totals[name] / total)}",
            pieces=_pieces(ops, profile, scale=axis.width / scale, start=axis.start),
        )
        for name, ops in groups.items()
        if totals[name]
    )
    what = "Time" if profile.unit == "ns" else "Instructions"
    return OperatorChart(
        title=f"{what} of each operator by module, {row.artifact}, {row.device}",
        bars=bars,
        ticks=axis.ticks,
        note="A bar for each module in the order of execution, a piece for each operator: point at one for its name. "
        + profiles.note(profile),
    )


def _drawn(op: ReportedOperator) -> int:
    """What of an operator can be drawn: the rest of an inference may come out below nothing by a few instructions."""
    return max(0, op.amount or 0)


def _pieces(
    ops: Sequence[ReportedOperator], profile: ReportedProfile, *, scale: float, start: float
) -> tuple[Piece, ...]:
    pieces, at = [], start
    for op in ops:
        taken = _drawn(op)
        if taken:
            where = op.source or op.module or op.node
            words = (profiles.label(op), op.kernel if op.kernel != op.name else "", where)
            title = "; ".join(part for part in (*words, profiles.figure(taken, profile)) if part)
            pieces.append(Piece(at=round(at, 3), width=round(taken * scale, 3), title=title))
            at += taken * scale
    return tuple(pieces)


def _scale(most: int, profile: ReportedProfile) -> tuple[float, str]:
    """What one unit of the axis is, and its name."""
    if profile.unit == "ns":
        return (1e6, "ms") if most >= figures.MILLION else (1e3, "\u00b5s")
    return (1e6, "M") if most >= figures.MILLION else (1e3, "k")


def _depth(ops: Sequence[ReportedOperator]) -> int:
    """How many parts of a module's path are told apart: as many as leave no more than so many bars, at least one."""
    deepest = max((op.module.count(".") + 1 for op in ops if op.module), default=1)
    fitting = (depth for depth in range(deepest, 1, -1) if len({_module(op, depth) for op in ops}) <= _MOST_BARS)
    return next(fitting, 1)


def _module(op: ReportedOperator, depth: int) -> str:
    """The module that an operator is drawn with."""
    if op.kind != "operator":
        return _NOWHERE
    if op.module:
        return ".".join(op.module.split(".")[:depth])
    return _WHOLE if op.node else _ADDED
