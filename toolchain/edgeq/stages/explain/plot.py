"""The layers of a recipe as a picture: noise as bars, ratios as dots, in the order of the network; one SVG file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2

from edgeq.stages.explain.terminal import headline, layer_name
from edgeq.stages.report.figures import percent, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeq.records import LayerNumerics, Numerics

_NAME_PX, _BARS_PX, _GAP_PX, _DOTS_PX, _MARGIN_PX = 260, 300, 60, 380, 20
_ROW_PX, _HEAD_PX, _FOOT_PX = 18, 92, 30
_LONGEST_NAME = 38
_DECIBELS_BETWEEN_TICKS = 10
SERIES = (
    ("weight", "weight_sqnr_db", "rounded weights"),
    ("own", "own_sqnr_db", "its result, it alone in int8"),
    ("output", "output_sqnr_db", "its result, all before in int8 too"),
)
"""Class in the drawing, field of the record, words of the legend."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One operation: a bar for its share of the noise, a dot for each ratio that it has."""

    y: int
    name: str
    tooltip: str
    bar: float
    share: str
    dots: tuple[tuple[str, float], ...]


def render(numerics: Numerics) -> str:
    """The picture as SVG text; it names no network and holds no script."""
    rows = numerics.layers
    first, last = _ends(rows)
    left = _MARGIN_PX + _NAME_PX
    dots = left + _BARS_PX + _GAP_PX

    def place(decibels: float) -> float:
        return round(dots + _DOTS_PX * (decibels - first) / (last - first), 1)

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgeq.stages.explain"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    largest = max((row.noise_share for row in rows), default=0.0) or 1.0
    bottom = _HEAD_PX + _ROW_PX * len(rows)
    return environment.get_template("layers.svg.j2").render(
        title=printable(headline(numerics)),
        width=dots + _DOTS_PX + 2 * _MARGIN_PX,
        height=bottom + _FOOT_PX,
        margin=_MARGIN_PX,
        left=left,
        dots=dots,
        top=_HEAD_PX - _ROW_PX // 2,
        bottom=bottom,
        series=SERIES,
        ticks=[(place(tick), f"{tick} dB") for tick in range(first, last + 1, _DECIBELS_BETWEEN_TICKS)],
        rows=[_row(row, _HEAD_PX + _ROW_PX * index, largest, place) for index, row in enumerate(rows)],
    )


def _row(row: LayerNumerics, y: int, largest: float, place: Callable[[float], float]) -> Row:
    ratios = [(name, getattr(row, field)) for name, field, _ in SERIES]
    name = printable(layer_name(row))
    return Row(
        y=y,
        name=name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}",
        tooltip=printable(f"{name} ({row.node}) {row.source}".strip()),
        bar=round((_BARS_PX - _GAP_PX) * row.noise_share / largest, 1),
        share=percent(row.noise_share),
        dots=tuple((name, place(value)) for name, value in ratios if value is not None),
    )


def _ends(rows: Sequence[LayerNumerics]) -> tuple[int, int]:
    """Whole tens of decibels around every ratio."""
    values = [value for row in rows for _, field, _ in SERIES if (value := getattr(row, field)) is not None]
    step = _DECIBELS_BETWEEN_TICKS
    first = step * math.floor(min(values, default=0) / step)
    return first, max(step * math.ceil(max(values, default=0) / step), first + step)
