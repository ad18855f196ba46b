"""The limits of a project, held against what was built and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.records import Check
from edgeq.stages.report import figures
from edgeq.stages.report.classes import needed_sentence
from edgeq.stages.report.evidence import CHANCE, FP32, WITHOUT_A_BOARD, tells_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import Limits, Outcome, ReportRow

NEVER_SLOWER = "never_slower"


def held_against(rows: Sequence[ReportRow], limits: Limits | None, target: str) -> tuple[Check, ...]:
    """Each limit against each quantized artifact, and on each device where the device matters.

    Only a clock of ``target`` itself decides ``never_slower``.

    An fp32 artifact is the reference and has no limits of its own.
    """
    if limits is None:
        return ()
    quantized = [row for row in rows if row.recipe != FP32]
    found: list[Check] = []
    for artifact in dict.fromkeys(row.artifact for row in quantized):
        mine = [row for row in quantized if row.artifact == artifact]
        found += _of_the_file(mine[0], limits)
        for row in mine:
            found += _on_the_device(row, limits, target)
    return tuple(found)


def _of_the_file(row: ReportRow, limits: Limits) -> Iterator[Check]:
    """Limits that the file alone decides."""
    for name, least, share, what in (
        ("min_int8_mac_share", limits.min_int8_mac_share, row.int8_mac_share, "in int8"),
        ("min_delegated_mac_share", limits.min_delegated_mac_share, row.delegated_mac_share, "delegated"),
    ):
        if least is not None:
            outcome: Outcome = "met" if share >= least else "missed"
            text = f"{figures.percent(share)} of the MACs are {what}; the limit is at least {figures.percent(least)}"
            yield _check(row, name, outcome, text, device=None)
    if limits.max_partitions is not None and row.format == "pte":  # ONNX Runtime runs a file as a whole
        outcome = "met" if row.partitions <= limits.max_partitions else "missed"
        text = f"{figures.some(row.partitions, 'partition')}; the limit is at most {limits.max_partitions}"
        yield _check(row, "max_partitions", outcome, text, device=None)


def _on_the_device(row: ReportRow, limits: Limits, target: str) -> Iterator[Check]:
    """Limits that only a measurement decides."""
    if limits.max_drop_pp is not None:
        yield _check(row, "max_drop_pp", *_drop(row, limits.max_drop_pp), device=row.device)
    if limits.never_slower:
        yield _check(row, NEVER_SLOWER, *_slower(row, target), device=row.device)


def _drop(row: ReportRow, most: float) -> tuple[Outcome, str]:
    """Missed when the drop is over the limit and not chance; met when its whole interval is within; else open."""
    limit = f"the limit is {most:g} pp"
    if row.drop_pp is None:
        why = "not measured yet" if row.device is None else "no drop could be measured"
        return "cannot tell", f"{why}; {limit}"
    measured = f"the drop is {figures.points(row.drop_pp, row.labelled)} on {figures.count(row.labelled)} samples"
    if row.drop_ci95_pp is None or row.drop_p_value is None:
        return ("missed" if row.drop_pp > most else "met"), f"{measured} (no interval); {limit}"
    low, high = row.drop_ci95_pp
    reach = f"95 %: {figures.signed(low, 2)} to {figures.signed(high, 2)} pp, {figures.p_value(row.drop_p_value)}"
    if row.drop_pp > most and row.drop_p_value <= CHANCE:
        return "missed", f"{measured} ({reach}); {limit}"
    if high <= most:
        return "met", f"{measured} ({reach}); {limit}"
    needed = f"; {needed_sentence(row.samples_needed)}" if row.samples_needed else ""
    return "cannot tell", f"{measured} ({reach}): too few samples to hold it to {most:g} pp{needed}"


def _slower(row: ReportRow, target: str) -> tuple[Outcome, str]:
    speed = row.speedup_vs_fp32
    if row.timing == "emulated":
        return "cannot tell", f"{WITHOUT_A_BOARD}: {speed.reason}"
    if speed.verdict == "cannot tell" or speed.ratio is None:
        return "cannot tell", speed.reason
    text = f"{speed.verdict}: fp32 takes {figures.ratio(speed.ratio)} its time{figures.reach(speed.low, speed.high)}"
    if not tells_time(row.timing, target):
        return "cannot tell", f"{WITHOUT_A_BOARD}; on this machine, which is no {target}, {text}"
    return ("missed" if speed.verdict == "slower" else "met"), text


def _check(row: ReportRow, limit: str, outcome: Outcome, text: str, *, device: str | None) -> Check:
    return Check(build=row.build, artifact=row.artifact, device=device, limit=limit, outcome=outcome, text=text)
