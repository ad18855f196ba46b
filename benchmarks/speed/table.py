"""The rows of a run as a Markdown table, and the bars that they are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from speed.files import FLOAT, ORT, OURS, STOCK

from edgeq import stats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEAD = (
    "model", "flow", "file", "int8 MACs", "partitions", "ms (95 %)", "times as fast as fp32 (95 %)",
    "A72, M instructions", "A76, M instructions",
)  # fmt: skip

SAME = 0.005
"""Counts of two files that do the same work differ by less."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A file of a model: its times here, round by round, and what it retires on emulated boards."""

    model: str
    flow: str
    format: str = ""
    variant: str = ""
    size_bytes: int = 0
    int8_mac_share: float = 0.0
    partitions: int | None = None
    rounds_ns: list[list[int]] = field(default_factory=list)
    instructions: dict[str, int | None] = field(default_factory=dict)
    problem: str = ""

    @property
    def file(self) -> str:
        """Its format, and its variant where there is more than one."""
        return f".{self.format} {self.variant}".strip()


@dataclass(frozen=True, kw_only=True)
class Bar:
    """How many times as fast as another file of the model the file of a flow has to be on x86 with VNNI."""

    model: str
    file: str
    other: tuple[str, str]
    least: float


BARS = (
    Bar(model="resnet-18", file=".onnx U8", other=(FLOAT, ".onnx"), least=3.2),
    Bar(model="resnet-18", file=".onnx U8", other=(ORT, ".onnx S8"), least=2.5),
    Bar(model="resnet-18", file=".pte", other=(FLOAT, ".pte"), least=3.1),
    Bar(model="mobilenet-v2", file=".onnx U8", other=(FLOAT, ".onnx"), least=2.0),
    Bar(model="mobilenet-v2", file=".pte", other=(FLOAT, ".pte"), least=1.85),
    Bar(model="mobilenet-v3-small", file=".pte", other=(FLOAT, ".pte"), least=1.3),
    Bar(model="efficientnet-lite0", file=".onnx U8", other=(FLOAT, ".onnx"), least=2.0),
    Bar(model="efficientnet-lite0", file=".pte", other=(FLOAT, ".pte"), least=2.0),
)

MOST_OF_STOCK = {"mobilenet-v3-small": 0.8}
"""The share of the instructions of stock int8 that edgeq's int8 .pte may take; 1 for all others."""


def markdown(rows: Sequence[Row]) -> str:
    """One table with a line a row; a model is named in its first line only."""
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    before = ""
    for row in rows:
        lines.append(_line(["" if row.model == before else row.model, *_cells(row, rows)]))
        before = row.model
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    if row.problem:
        return [row.flow, "", row.problem.replace("|", "/"), *[""] * 5]
    twin = find(rows, row.model, FLOAT, f".{row.format}")
    return [
        row.flow,
        row.file,
        "" if row.flow == FLOAT else f"{row.int8_mac_share:.1%}",
        "" if row.partitions is None else str(row.partitions),
        milliseconds(row),
        "" if twin is None or row.flow == FLOAT else ratio_text(twin, row),
        *(_millions(row.instructions.get(board)) for board in ("rpi4", "rpi5")),
    ]


def milliseconds(row: Row) -> str:
    """The median with its interval; nothing where it was not timed."""
    if not row.rounds_ns:
        return ""
    once = stats.percentile([ns for one in row.rounds_ns for ns in one], 50)
    interval = stats.percentile_interval(row.rounds_ns, stats.MEDIAN)
    low_high = "" if interval is None else f" ({interval[0] / 1e6:.3g} to {interval[1] / 1e6:.3g})"
    return "" if once is None else f"{once / 1e6:.3g}{low_high}"


def ratio_text(reference: Row, row: Row) -> str:
    """How many times as fast as ``reference``; nothing where one was not timed."""
    if not reference.rounds_ns or not row.rounds_ns:
        return ""
    found = stats.median_ratio(reference.rounds_ns, row.rounds_ns)
    low_high = "" if found.low is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.ratio:.2f}{low_high}"


def _millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f}"


def find(rows: Sequence[Row], model: str, flow: str, file: str) -> Row | None:
    """The row of that file of a flow; None if it was not made."""
    return next(
        (row for row in rows if (row.model, row.flow, row.file) == (model, flow, file) and not row.problem), None
    )


def verdicts(rows: Sequence[Row]) -> Iterator[str]:
    """Each bar with what was measured, then what is slower or dearer than it should be."""
    for bar in BARS:
        ours = find(rows, bar.model, OURS, f"{bar.file} x86") or find(rows, bar.model, OURS, bar.file)
        other = find(rows, bar.model, *bar.other)
        if ours is None or other is None or not ours.rounds_ns or not other.rounds_ns:
            continue
        found = stats.median_ratio(other.rounds_ns, ours.rounds_ns)
        word = "met" if found.ratio >= bar.least else "MISSED"
        yield (
            f"{word}: {bar.model} int8 {bar.file} is {ratio_text(other, ours)} times as fast as "
            f"{bar.other[0]} {bar.other[1]}, to be {bar.least}"
        )
    for model in dict.fromkeys(row.model for row in rows):
        yield from _instruction_verdicts(rows, model)


def _instruction_verdicts(rows: Sequence[Row], model: str) -> Iterator[str]:
    for file in (".pte", ".onnx S8"):
        ours = find(rows, model, OURS, file)
        if ours is None:
            continue
        others = [(find(rows, model, FLOAT, file.split()[0]), FLOAT, 1.0)]
        if file == ".pte":
            others.append((find(rows, model, STOCK, file), STOCK, MOST_OF_STOCK.get(model, 1.0)))
        for board, count in ours.instructions.items():
            for other, name, most in others:
                their_count = None if other is None else other.instructions.get(board)
                if count is None or their_count is None:
                    continue
                share = count / their_count
                word = "met" if share <= most + SAME else "MISSED"
                yield f"{word}: {model} int8 {file} retires {share:.3f} of {name} on {board}, to be {most:g} at most"
