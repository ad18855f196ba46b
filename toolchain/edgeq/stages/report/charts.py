"""The geometry of the charts, in per cent of a track's width; the template draws it as inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeq.records import ReportRow
from edgeq.stages.report import figures
from edgeq.stages.report.evidence import FP32

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOM = 1.0
"""Per cent of a track that is left free at each end, so that no mark is cut."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One artifact in a chart: a bar from zero to ``at``, or a dot at ``at``; whiskers from ``low`` to ``high``."""

    label: str
    value: str
    at: float
    low: float | None
    high: float | None
    reference: bool


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line of the axis and what it says."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The artifacts of one runtime on one scale."""

    title: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Panels that share an axis; ``kind`` says what a mark looks like."""

    title: str
    kind: Literal["bar", "dot"]
    panels: tuple[Panel, ...]
    ticks: tuple[Tick, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class _Point:
    row: ReportRow
    value: float
    low: float | None
    high: float | None
    text: str


def accuracy(rows: Sequence[ReportRow]) -> Chart | None:
    """Share of right answers, each with its interval; the axis starts where the data does, so no bars."""
    points = [
        _Point(
            row=row,
            value=100 * row.accuracy,
            low=100 * row.accuracy_ci95[0],
            high=100 * row.accuracy_ci95[1],
            text=figures.percent(row.accuracy, row.labelled),
        )
        for row in rows
        if row.accuracy is not None and row.accuracy_ci95 is not None
    ]
    if not points:
        return None
    low = min(point.low or 0 for point in points)
    high = max(point.high or 100 for point in points)
    step = _step(high - low)
    first, last = max(0.0, math.floor(low / step) * step), min(100.0, math.ceil(high / step) * step)
    return _chart(
        "Accuracy",
        "dot",
        points,
        (first, last, step),
        "%",
        note="Dot: measured share of right answers. Line: 95 % interval for samples like these (Wilson).",
    )


def size(rows: Sequence[ReportRow]) -> Chart | None:
    """Bytes of each file."""
    once = {row.artifact: row for row in rows}.values()
    scale, unit = (1e6, "MB") if max((row.size_bytes for row in once), default=0) >= figures.MILLION else (1e3, "kB")
    points = [_point(row, row.size_bytes / scale, figures.megabytes(row.size_bytes)) for row in once]
    return _from_zero("File size", points, unit)


def instructions(rows: Sequence[ReportRow]) -> tuple[Chart, ...]:
    """Retired instructions of one inference on an emulated board, a chart for each recipe: precisions do not compare.

    A cost, drawn apart from every time.
    """
    counted = [row for row in rows if row.instructions is not None and row.timing == "emulated"]
    drawn = []
    for recipe in dict.fromkeys(row.recipe for row in counted):
        points = [
            _point(row, row.instructions / 1e6, figures.millions(row.instructions))
            for row in counted
            if row.recipe == recipe and row.instructions is not None
        ]
        note = "A cost, not a time; of one precision."
        drawn.append(_from_zero(f"Instructions per inference, {recipe}", points, "M", note=note))
    return tuple(chart for chart in drawn if chart is not None)


def latency(rows: Sequence[ReportRow]) -> Chart | None:
    """Median latency with its interval; the rows are of one device, whose clock is real."""
    slowest = max((row.p50_ms for row in rows if row.p50_ms is not None), default=0)
    scale, unit = (1, "ms") if slowest >= 1 else (1e3, "\u00b5s")
    points = [
        _Point(
            row=row,
            value=row.p50_ms * scale,
            low=row.ci95_ms[0] * scale if row.ci95_ms else None,
            high=row.ci95_ms[1] * scale if row.ci95_ms else None,
            text=figures.ms(row.p50_ms),
        )
        for row in rows
        if row.p50_ms is not None and row.timing != "emulated"
    ]
    return _from_zero("Median latency", points, unit, note="Line: 95 % interval of the median.")


def _point(row: ReportRow, value: float, text: str) -> _Point:
    return _Point(row=row, value=value, low=None, high=None, text=text)


def _from_zero(title: str, points: Sequence[_Point], unit: str, *, note: str = "") -> Chart | None:
    if not points:
        return None
    most = max(max(point.value, point.high or 0) for point in points)
    return _chart(title, "bar", points, _to(most), unit, note=note)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis from zero: where it begins, and how wide one unit is, in per cent of the track."""

    start: float
    width: float
    ticks: tuple[Tick, ...]


def axis_of(most: float, unit: str) -> Axis:
    """An axis from zero to a round number that is not below ``most``."""
    first, last, step = _to(most)
    start, end = _place(first, first, last), _place(last, first, last)
    return Axis(start=start, width=(end - start) / last, ticks=_ticks((first, last, step), unit))


def _to(most: float) -> tuple[float, float, float]:
    """From zero to at least ``most``, in round steps."""
    step = _step(most)
    return 0.0, max(1, math.ceil(most / step)) * step, step


def _place(value: float, first: float, last: float) -> float:
    return round(_ROOM + (100 - 2 * _ROOM) * (value - first) / (last - first), 2)


def _ticks(axis: tuple[float, float, float], unit: str) -> tuple[Tick, ...]:
    first, last, step = axis
    decimals = max(0, -math.floor(math.log10(step)))
    values = [round(first + index * step, 9) for index in range(round((last - first) / step) + 1)]
    return tuple(Tick(at=_place(value, first, last), text=f"{value:,.{decimals}f}\u00a0{unit}") for value in values)


def _chart(  # noqa: PLR0913  # what a chart is made of
    title: str,
    kind: Literal["bar", "dot"],
    points: Sequence[_Point],
    axis: tuple[float, float, float],
    unit: str,
    *,
    note: str = "",
) -> Chart:
    first, last, _ = axis

    def place(value: float) -> float:
        return _place(value, first, last)

    def mark(point: _Point) -> Mark:
        return Mark(
            label=point.row.recipe,
            value=point.text,
            at=place(point.value),
            low=None if point.low is None else place(point.low),
            high=None if point.high is None else place(point.high),
            reference=point.row.recipe == FP32,
        )

    panels: dict[str, list[Mark]] = {}
    for point in points:
        runtime = figures.RUNTIMES["executorch" if point.row.format == "pte" else "onnxruntime"]
        panels.setdefault(runtime, []).append(mark(point))
    return Chart(
        title=title,
        kind=kind,
        panels=tuple(Panel(title=name, marks=tuple(marks)) for name, marks in panels.items()),
        ticks=_ticks(axis, unit),
        note=note,
    )


def _step(span: float) -> float:
    """A round step (1, 2 or 5 times a power of ten) that cuts ``span`` into two to five parts."""
    if span <= 0:
        return 1.0
    raw = span / 4
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw)
