"""What a report says of a build for a microcontroller, where nothing can be measured from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.records import Decision
from edgeq.stages.report import figures
from edgeq.stages.report.evidence import FP32
from edgeq.stages.report.tables import NOTHING, Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import Artifact, Manifest, NpuEstimate


def decide(manifest: Manifest) -> Decision:
    """No verdict, what is known of each quantized file, and no question that a command of edgeq could answer."""
    return Decision(
        headline=f"No verdict: {manifest.target} is a microcontroller, where edgeq can measure nothing.",
        evidence=tuple(_evidence(one) for one in manifest.artifacts if one.recipe != FP32),
        open_questions=(),
        recommendations=(),
    )


def _evidence(artifact: Artifact) -> str:
    host = artifact.host
    where = f"{figures.some(artifact.partitions, 'partition')} for the NPU" if artifact.partitions else "CMSIS-NN"
    facts = [f"{figures.percent(artifact.delegated_mac_share)} of the MACs in {where}"]
    if host.correct is not None and host.labelled:
        right = figures.of_total(host.correct, host.labelled)
        facts.append(
            f"right on {right} labelled samples ({figures.percent(host.correct / host.labelled, host.labelled)})"
        )
    if host.agree is not None:
        facts.append(f"fp32's answer on {figures.of_total(host.agree, host.total)}")
    facts.append(figures.megabytes(artifact.size_bytes))
    return f"{artifact.name}: {'; '.join(facts)}. Scored was {host.scored}."


def estimates(artifacts: Sequence[tuple[Cell, NpuEstimate]]) -> Iterator[Table]:
    """What Vela expects of each file, each given by its cell, in a table for each Vela and setting: none, or one."""
    groups: dict[tuple[str, ...], list[tuple[Cell, NpuEstimate]]] = {}
    for cell, one in artifacts:
        groups.setdefault((one.by, one.accelerator, one.system_config, one.memory_mode), []).append((cell, one))
    for rows in groups.values():
        yield _table(rows)


def _table(rows: Sequence[tuple[Cell, NpuEstimate]]) -> Table:
    one = rows[0][1]
    names = ("Cycles", "Inferences a second", "MACs in use", "SRAM", "DRAM", "On-chip flash", "Off-chip flash")
    outside = max(estimate.outside for _, estimate in rows)
    core = f" {figures.some(outside, 'operator')} on the core beside it {'are' if outside > 1 else 'is'} not counted."
    return Table(
        title=f"Estimate by {one.by}, not a measurement",
        columns=(Column(name="Artifact", numeric=False), *(Column(name=name) for name in names)),
        rows=tuple(
            (
                cell,
                Cell(text=figures.count(estimate.cycles), small=f"{figures.count(estimate.compute_cycles)} computing"),
                Cell(text=figures.significant(estimate.inferences_per_second)),
                Cell(text=figures.percent(estimate.mac_utilisation)),
                *(
                    Cell(text=figures.megabytes(size)) if size else NOTHING
                    for size in (
                        estimate.sram_bytes,
                        estimate.dram_bytes,
                        estimate.on_chip_flash_bytes,
                        estimate.off_chip_flash_bytes,
                    )
                ),
            )
            for cell, estimate in rows
        ),
        note=f"What the compiler expects of an {one.accelerator} at {one.clock_hz / 1e6:g} MHz, a clock that "
        f"{one.system_config} assumes, with memory as {one.memory_mode} lays it out. No board and no simulator ran it."
        + (core if outside else ""),
    )
