"""The history for a person: a table for each device, a line for each figure, and the sessions with their names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from edgeq.stages.report import figures
from edgeq.stages.report.tables import Cell, Column, Table, Tone
from edgeq.stages.report.terminal import headed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from edgeq.stages.history.trend import Point, Series, Session, Trend

_BARS = "▁▂▃▄▅▆▇█"
_FLAT = 0.02
"""Values that differ by less than this share fill no more than a bar's height: noise should not look like a change."""

_TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "same": "dim", "cannot tell": "open"}

_FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("p50_ms", "median", figures.ms),
    ("instructions", "instructions", lambda value: figures.millions(round(value))),
    ("peak_rss_bytes", "peak memory", lambda value: figures.megabytes(round(value))),
    ("size_bytes", "file size", lambda value: figures.megabytes(round(value))),
    ("accuracy", "accuracy", figures.percent),
)

_NOTE = (
    "last against first, accuracy on the samples that both ran; better and worse only where that is more than "
    "noise and the tolerance of [check] (docs/check.md)"
)


def renderable(found: Trend) -> RenderableType:
    """The trend for rich to print."""
    if not found.series:
        return Text(figures.printable(f"nothing was measured of {found.model} yet in {found.place}; run edgeq bench"))
    parts: list[RenderableType] = [Text(figures.printable(f"{found.model}, {found.place}"), style="dim")]
    devices = dict.fromkeys((one.target, one.device) for one in found.series)
    for target, device in devices:
        mine = [one for one in found.series if (one.target, one.device) == (target, device)]
        parts.append(headed(_device(f"{device}, built for {target}", mine)))
    parts.append(headed(_sessions(found.sessions)))
    return Group(*parts)


def spark(values: Sequence[float]) -> str:
    """A bar for each value, as high as it lies between the least and the most."""
    middle = sum(values) / len(values)
    low = min(*values, middle * (1 - _FLAT)) if len(values) > 1 else middle
    high = max(*values, middle * (1 + _FLAT)) if len(values) > 1 else middle
    if math.isclose(low, high):
        return _BARS[0] * len(values)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in values)


def _device(title: str, series: Sequence[Series]) -> Table:
    names = ("Artifact", "Figure", "Trend", "First", "Last", "Change", "Verdict")
    return Table(
        title=title,
        columns=tuple(Column(name=name, numeric=name in {"First", "Last", "Change"}) for name in names),
        rows=tuple(row for one in series for row in _rows(one)),
        note=_NOTE,
    )


def _rows(series: Series) -> Iterator[tuple[Cell, ...]]:
    outcomes = {change.figure: change for change in series.changes}
    artifact = series.artifact
    for field, name, written in _FIGURES:
        values = [value for point in series.points if (value := _value(point, field)) is not None]
        if not values:
            continue
        change = outcomes.get(field)
        unit = "pp" if field == "accuracy" else "%"
        moved = "" if change is None or change.difference is None else f"{figures.signed(change.difference, 2)} {unit}"
        yield (
            Cell(text=artifact),
            Cell(text=name),
            Cell(text=spark(values)),
            Cell(text=written(values[0]), small=_samples(series.points[0], field)),
            Cell(text=written(values[-1]), small=_samples(series.points[-1], field)),
            Cell(text=moved),
            Cell(text=change.outcome if change else "", tone=_TONES[change.outcome] if change else ""),
        )
        artifact = ""  # said once


def _value(point: Point, field: str) -> float | None:
    value: float | None = getattr(point, field)
    return value


def _samples(point: Point, field: str) -> str:
    return f"of {figures.count(point.labelled)}" if field == "accuracy" else ""


def _sessions(sessions: Sequence[Session]) -> Table:
    names = ("Session", "When", "Device", "Target", "Commit", "Artifacts")
    return Table(
        title="Sessions",
        columns=tuple(Column(name=name, numeric=name == "Artifacts") for name in names),
        rows=tuple(
            (
                Cell(text=one.id),
                Cell(text=figures.moment(one.started_at)),
                Cell(text=one.device),
                Cell(text=one.target),
                Cell(text=(one.commit[:12] + (" and changes" if one.dirty else "")) or figures.NOTHING),
                Cell(text=figures.count(one.artifacts)),
            )
            for one in sessions
        ),
        note="edgeq check BUILD --against history:SESSION holds a build against one of them",
    )
