"""What a terminal shows of the nodes of an artifact: what was left out and why, and what was moved about."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgeq.stages.report.figures import NOTHING, listed, megabytes, of_total, percent, printable, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from edgeq.records import Artifact, Movement, NodeFacts, Nodes, Partition, Runs

_MOST_ROWS = 12
"""Of partitions and of movements; the JSON has all."""

_MOST_LINES = 3
"""Of the user's, that one reason names."""

_EXACT = 9
"""Digits of a sum of shares: a whole is 1, whatever floats make of it."""

_TOLD: dict[Runs, str] = {
    "int8": "in int8", "float": "in float", "other": "on other numbers", "moves": "that only move values",
}  # fmt: skip


def overview(artifact: Artifact, nodes: Nodes) -> Iterator[RenderableType]:
    """What a person needs to decide: what runs how, what was left out with reason and remedy, what is moved about."""
    yield indented(summary(nodes.nodes))
    yield from _fusions(artifact, nodes.nodes)
    yield _operators(nodes.nodes)
    yield from _left_out(artifact, nodes.nodes)
    yield from _partitions(nodes.partitions)
    yield from _movements(nodes.movements)
    for note in nodes.notes:
        yield indented(f"note: {note}", "dim")


def every(nodes: Nodes) -> Table:
    """All nodes, in the order of the file."""
    parted = bool(nodes.partitions)
    table = table_of(
        ("node", False),
        ("operator", False),
        ("kernel", False),
        ("runs", False),
        *([("part", True)] if parted else []),
        ("MACs", True),
        ("left out for", False),
        ("module", False),
        ("line", False),
    )
    for node in nodes.nodes:
        where = "outside" if node.partition is None else str(node.partition)
        cells = [node.node, operator(node.op), node.kernel or NOTHING, node.runs, *([where] if parted else [])]
        cells += [percent(node.mac_share) if node.macs else NOTHING, node.code or NOTHING, node.module or NOTHING]
        cells += [_place(node)]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _place(node: NodeFacts) -> str:
    """``net.py:7`` of ``features.0 (net.py:7: x = self.features(x))``."""
    return node.source.removeprefix(f"{node.module} (").partition(": ")[0] or NOTHING


def summary(nodes: Sequence[NodeFacts]) -> str:
    """How many nodes run how."""
    counted = Counter(node.runs for node in nodes)
    told = [f"{counted[runs]} {words}" for runs, words in _TOLD.items() if counted[runs]]
    outside = sum(not node.delegated for node in nodes)
    text = f"{some(len(nodes), 'node')}: {listed(told)}" if told else "no node"
    return f"{text}; {outside} not accelerated" if outside else text


def operator(op: str) -> str:
    """``convolution`` of ``aten.convolution.default``; an ONNX operator is called what it is called."""
    parts = op.split(".")
    return (parts[1] if len(parts) == 3 else parts[0]).strip("_").removesuffix("_copy")  # noqa: PLR2004  # namespace, name, overload


def indented(text: str, style: str = "") -> Padding:
    """A line that belongs to the heading above it."""
    return Padding(Text(printable(text), style=style), (0, 0, 0, 2))


def _fusions(artifact: Artifact, nodes: Iterable[NodeFacts]) -> Iterator[RenderableType]:
    """How many of the Q and DQ that were written became an int8 kernel."""
    fused = sum(node.runs == "int8" for node in nodes)
    unfused = sum(node.code == "unfused" for node in nodes)
    if artifact.format == "onnx" and fused + unfused:
        yield indented(f"ONNX Runtime fused Q and DQ into int8 kernels at {of_total(fused, fused + unfused)} nodes")


def _operators(nodes: Sequence[NodeFacts]) -> Table:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    shares: Counter[str] = Counter()
    for node in nodes:
        name = operator(node.op)
        counts[name][node.runs] += 1
        counts[name]["outside"] += not node.delegated
        shares[name] += node.mac_share  # type: ignore[assignment]  # a Counter adds floats as well
    table = table_of(("operator", False), *((runs, True) for runs in _TOLD), ("not accelerated", True), ("MACs", True))
    for name in sorted(counts, key=lambda name: (-shares[name], -counts[name].total(), name)):
        cells = [str(counts[name][runs] or NOTHING) for runs in _TOLD]
        share = percent(round(shares[name], _EXACT)) if shares[name] else NOTHING
        table.add_row(Text(printable(name)), *cells, str(counts[name]["outside"] or NOTHING), share)
    return table


def _left_out(artifact: Artifact, nodes: Iterable[NodeFacts]) -> Iterator[RenderableType]:
    groups: dict[tuple[str, ...], list[NodeFacts]] = defaultdict(list)
    for node in nodes:
        if node.code:  # what stands beside float has a reason each, and none that is worth a line of its own
            reason = "" if node.code == "float-operands" else node.reason
            groups[operator(node.op), node.code, reason, node.rewrite].append(node)
    if not groups:
        all_is_well = "every node is accelerated" if artifact.recipe == "fp32" else "no node was left out"
        yield indented(all_is_well, "green")
        return
    yield _title("left out")
    table = table_of(("operator", False), ("nodes", True), ("MACs", True), ("why", False), ("your line", False))
    for (name, code, _, rewrite), members in sorted(
        groups.items(), key=lambda item: -sum(node.mac_share for node in item[1])
    ):
        others = len({node.reason for node in members}) - 1
        why = Text(printable(f"{code}: {members[0].reason}" + (f"; {others} more like it" if others else "")))
        if rewrite:
            why.append(f"\ntry: {printable(rewrite)}", style="green")
        share = round(sum(node.mac_share for node in members), _EXACT)
        table.add_row(
            Text(printable(name)),
            str(len(members)),
            percent(share) if share else NOTHING,
            why,
            Text("\n".join(map(printable, _lines(members))) or NOTHING),
        )
    yield table


def _lines(nodes: Sequence[NodeFacts]) -> list[str]:
    """The first of their lines, and how many more there are."""
    lines = list(dict.fromkeys(node.source for node in nodes if node.source))
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], f"and {some(len(lines) - _MOST_LINES + 1, 'line')} more: --nodes"]


def _partitions(partitions: Sequence[Partition]) -> Iterator[RenderableType]:
    if not partitions:
        return
    yield _title(some(len(partitions), "partition"))
    table = table_of(("part", True), ("MACs", True), ("in", True), ("out", True), ("holds", False))
    for one in partitions[:_MOST_ROWS]:
        held = [f"{count} {operator(name)}" for name, count in one.operators.items()]
        table.add_row(
            str(one.index),
            percent(one.mac_share),
            megabytes(one.bytes_in),
            megabytes(one.bytes_out),
            Text(printable(listed(held) if held else "conversions alone")),
        )
    yield table
    yield from _more(len(partitions), "partition")


def _movements(movements: Sequence[Movement]) -> Iterator[RenderableType]:
    if not movements:
        return
    total = megabytes(_bytes(movements))
    yield _title(f"moved without computing: {total} an inference")
    groups: dict[tuple[str, str, str], list[Movement]] = defaultdict(list)
    for one in movements:
        where = "outside" if one.partition is None else str(one.partition)
        groups[one.kind, where if any(other.partition is not None for other in movements) else "", one.at].append(one)
    table = table_of(("what", False), ("times", True), ("moved", True), ("part", True), ("where", False))
    ranked = sorted(groups.items(), key=lambda item: -_bytes(item[1]))
    for (kind, where, at), members in ranked[:_MOST_ROWS]:
        moved = NOTHING if any(one.bytes is None for one in members) else megabytes(_bytes(members))
        table.add_row(kind, str(len(members)), moved, where or NOTHING, Text(printable(at or NOTHING)))
    yield table
    yield from _more(len(ranked), "place")


def _title(text: str) -> Text:
    return Text(f"\n{printable(text)}", style="bold")


def _bytes(movements: Iterable[Movement]) -> int:
    """Of those of which it is known."""
    return sum(one.bytes or 0 for one in movements)


def _more(number: int, thing: str) -> Iterator[RenderableType]:
    if number > _MOST_ROWS:
        yield indented(f"{some(number - _MOST_ROWS, thing)} more; --json lists them", "dim")


def table_of(*columns: tuple[str, bool]) -> Table:
    """An empty table; each column has a name, and is of numbers or not."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, numeric in columns:
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    return table
