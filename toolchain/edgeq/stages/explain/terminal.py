"""What a terminal shows of an explanation: tables with bars, findings with remedies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from edgeq.stages.explain.nodes import every, indented, overview, table_of
from edgeq.stages.report.figures import (
    NOTHING,
    count,
    decibels,
    listed,
    megabytes,
    millions,
    of_total,
    percent,
    printable,
    significant,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from edgeq.records import Artifact, LayerNumerics, NumericFinding, Numerics, Undelegated
    from edgeq.stages.explain import Explained

_REASONS = {
    "no-kernel": "the accelerated kernels do not know this operator",
    "constraint": "the accelerated kernels do not take it in this form",
    "float-kernel": "accelerated, but in float",
    "float-operands": "an operand is not int8",
    "unfused": "no int8 kernel; it runs in float between Q and DQ",
}
_NO_NODES = "this build is of an older edgeq and keeps no record of its nodes: build it again to see them all"
_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"
_MOST_NOISE = 0.9
_MOST_LAYERS = 20


def coverage(explained: Explained) -> RenderableType:
    """For each artifact, what of it is not int8 or not delegated, and what is moved about."""
    parts: list[RenderableType] = []
    for artifact in explained.artifacts:
        parts += [*_heading(artifact), *_measured(artifact, explained), *_estimated(artifact)]
        nodes = explained.nodes.get(artifact.name)
        parts += [*(_of_the_manifest(artifact) if nodes is None else overview(artifact, nodes)), Text()]
    return Group(*parts[:-1])


def all_nodes(explained: Explained) -> RenderableType:
    """For each artifact, all its nodes."""
    parts: list[RenderableType] = []
    for artifact in explained.artifacts:
        parts += [*_heading(artifact)]
        nodes = explained.nodes.get(artifact.name)
        parts += [indented(_NO_NODES) if nodes is None else every(nodes), Text()]
    return Group(*parts[:-1])


def numerics(explained: Explained) -> RenderableType:
    """For each recipe, its layers by the noise they make, and what was found."""
    parts: list[RenderableType] = []
    for one in explained.numerics:
        parts += [*_numerics(one, explained), Text()]
    return Group(*parts[:-1])


def layer_name(row: LayerNumerics) -> str:
    """What a person calls the layer: its path in the model, with the operator where that says more."""
    name = row.module or row.node
    return name if row.kind == "layer" else f"{name} {row.op}".strip()


def headline(one: Numerics) -> str:
    """What all roundings together do to the model's output."""
    lost = decibels(one.final_sqnr_db, identical=True)
    changed = of_total(one.answers_changed, one.samples)
    return f"{one.recipe}: {lost} at the model's output, {changed} answers changed, by simulation on calibration data"


def _heading(artifact: Artifact) -> Iterator[RenderableType]:
    parts = f" in {some(artifact.partitions, 'partition')}" if artifact.partitions and artifact.format == "pte" else ""
    yield Text(printable(artifact.name), style="bold")
    yield indented(
        f"{percent(artifact.int8_mac_share)} of {artifact.macs:,} MACs in int8, "
        f"{percent(artifact.delegated_mac_share)} in accelerated kernels{parts}"
    )


def _measured(artifact: Artifact, explained: Explained) -> Iterator[RenderableType]:
    """What it costs where that was counted, and what of its accuracy nobody can tell."""
    for cost in explained.costs:
        if cost.artifact == artifact.name:
            yield indented(
                f"{millions(cost.instructions)} instructions on {cost.device}, a cost and no time; "
                f"its MACs alone take {millions(cost.least_instructions)} ({percent(cost.limit_share)})"
            )
    for check in explained.open_drops:
        if check.artifact == artifact.name:
            where = f" on {check.device}" if check.device else ""
            yield indented(f"cannot tell: {check.limit}{where}: {check.text}", "yellow")


def _estimated(artifact: Artifact) -> Iterator[RenderableType]:
    """What Vela expects of it on its NPU."""
    one = artifact.estimate
    if one is None:
        return
    memory = [
        f"{megabytes(size)} of {name}"
        for name, size in (
            ("SRAM", one.sram_bytes),
            ("DRAM", one.dram_bytes),
            ("on-chip flash", one.on_chip_flash_bytes),
            ("off-chip flash", one.off_chip_flash_bytes),
        )
        if size
    ]
    yield indented(
        f"estimate by {one.by}, not a measurement: {count(one.cycles)} cycles, "
        f"{significant(one.inferences_per_second)} inferences a second on an {one.accelerator} at an assumed "
        f"{one.clock_hz / 1e6:g} MHz, {percent(one.mac_utilisation)} of its MACs in use, {listed(memory)}"
    )


def _of_the_manifest(artifact: Artifact) -> Iterator[RenderableType]:
    """What an older build says."""
    yield indented(_NO_NODES, "dim")
    if not artifact.undelegated:
        yield indented("nothing else runs beside them", "green")
        return
    table = table_of(("operator", False), ("node", False), ("MACs", True), ("why", False), ("your line", False))
    for row in artifact.undelegated:
        table.add_row(*(Text(printable(cell)) for cell in _undelegated(row)))
    yield table


def _undelegated(row: Undelegated) -> tuple[str, ...]:
    code, _, words = row.reason.partition(": ")
    why = f"{code}: {words or _REASONS.get(code, '')}".removesuffix(": ")
    return row.op, row.node, percent(row.mac_share), why, row.source or NOTHING


def _numerics(one: Numerics, explained: Explained) -> Iterator[RenderableType]:
    yield Text(printable(headline(one)), style="bold")
    for artifact in explained.artifacts:
        if artifact.recipe == one.recipe:
            yield indented(measured(artifact, explained.fp32))
    ranked = sorted(one.layers, key=lambda row: -row.noise_share)
    shown = _worth_showing(ranked)
    if shown:
        yield _layers(ranked[:shown], one.samples)
    rest = ranked[shown:]
    if rest:
        share = sum(row.noise_share for row in rest)
        others = f"{some(len(rest), 'operation')} more: {percent(share)} of the noise together; --json lists them"
        yield indented(others, "dim")
    yield from _findings(one.findings)


def measured(artifact: Artifact, fp32: Sequence[Artifact]) -> str:
    """What the artifact itself did on the evaluation set: the simulation is no measure of accuracy."""
    host = artifact.host
    twin = next((one.host for one in fp32 if one.format == artifact.format), None)
    said = []
    if host.correct is not None and host.labelled:
        right = f"{percent(host.correct / host.labelled, host.labelled)} right"
        if twin is not None and twin.correct is not None and twin.labelled:
            right += f" (fp32 {percent(twin.correct / twin.labelled, twin.labelled)})"
        said.append(right)
    if host.agree is not None:
        said.append(f"{of_total(host.agree, host.total)} answers as fp32")
        said.append(f"{decibels(host.sqnr_db, identical=host.identical)} from it")
    return f"measured, {artifact.name}: {listed(said) if said else 'nothing'}"


def _worth_showing(ranked: Sequence[LayerNumerics]) -> int:
    """How many of the noisiest operations make nearly all of the noise."""
    total = 0.0
    for shown, row in enumerate(ranked):
        if total >= _MOST_NOISE or shown == _MOST_LAYERS:
            return shown
        total += row.noise_share
    return len(ranked)


def _layers(rows: Sequence[LayerNumerics], samples: int) -> Table:
    table = table_of(
        ("layer", False),
        ("noise", False),
        ("MACs", True),
        ("weights", True),
        ("alone", True),
        ("in all", True),
        ("final", True),
        ("answers", True),
    )
    largest = max(row.noise_share for row in rows) or 1.0
    for row in rows:
        table.add_row(
            Text(printable(layer_name(row))),
            Text(f"{percent(row.noise_share):>7} {_bar(row.noise_share / largest)}"),
            percent(row.mac_share) if row.mac_share else NOTHING,
            decibels(row.weight_sqnr_db, identical=row.kind == "layer"),
            decibels(row.own_sqnr_db, identical=True),
            decibels(row.output_sqnr_db, identical=True),
            decibels(row.final_sqnr_db, identical=True),
            of_total(row.answers_changed, samples) if row.answers_changed else NOTHING,
        )
    table.caption = (
        "Noise: part of what all operations, each alone in int8, make at the model's output. Signal over noise of the "
        "rounded weights; of the result with this operation alone in int8, and with all of them; of the model's final "
        "output with it alone. Answers: how many top-1 it changes alone."
    )
    table.caption_justify = "left"
    return table


def _bar(share: float) -> str:
    whole, eighths = divmod(round(share * _BAR * 8), 8)
    return "█" * whole + (_EIGHTHS[eighths] if eighths else "")


def _findings(findings: Sequence[NumericFinding]) -> Iterator[RenderableType]:
    if not findings:
        yield indented("no known pattern of lost accuracy was found", "green")
    for finding in findings:
        yield Text(printable(f"{finding.code}: {finding.sentence}"), style="yellow")
        if finding.source:
            yield indented(finding.source, "dim")
        yield indented(f"remedy: {finding.remedy}")
