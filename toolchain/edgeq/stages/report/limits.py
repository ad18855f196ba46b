"""The limits of a project, held against what was built and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.records import Check
from edgeq.stages.report import figures
from edgeq.stages.report.classes import needed_sentence
from edgeq.stages.report.evidence import CHANCE, FP32, WITHOUT_A_BOARD, tells_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.records import Bound, Limits, Outcome, ReportRow

NEVER_SLOWER = "never_slower"


def held_against(rows: Sequence[ReportRow], limits: Limits | None, target: str) -> tuple[Check, ...]:
    """Each limit against each quantized artifact, and on each device where the device matters.

    Only a clock of ``target`` itself, on a device that was fit to be timed, decides ``never_slower`` and the limits of
    latency.

    An fp32 artifact is the reference: it has no limits but those that name it.
    """
    if limits is None:
        return ()
    found: list[Check] = []
    for artifact in dict.fromkeys(row.artifact for row in rows):
        mine = [row for row in rows if row.artifact == artifact]
        if mine[0].recipe != FP32:
            found += _of_the_file(mine[0], limits)
        found += _size(mine[0], limits)
        for row in mine:
            if row.recipe != FP32:
                found += _on_the_device(row, limits, target)
            found += _measured(row, limits, target)
    return tuple(found)


def bound_of(bound: Bound, row: ReportRow) -> float | None:
    """The limit of that artifact: its own, its recipe's, or the one of all that are quantized; None is none."""
    if isinstance(bound, dict):
        return bound.get(row.artifact, bound.get(row.recipe))
    return None if row.recipe == FP32 else bound


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


def _size(row: ReportRow, limits: Limits) -> Iterator[Check]:
    if (most := bound_of(limits.max_size_bytes, row)) is not None:
        outcome: Outcome = "met" if row.size_bytes <= most else "missed"
        text = f"the file has {figures.megabytes(row.size_bytes)}; the limit is {figures.megabytes(round(most))}"
        yield _check(row, "max_size_bytes", outcome, text, device=None)


def _measured(row: ReportRow, limits: Limits, target: str) -> Iterator[Check]:
    """Limits of a figure itself, not of how it compares with fp32."""
    for name, bound, value, interval in (
        ("max_p50_ms", limits.max_p50_ms, row.p50_ms, row.ci95_ms),
        ("max_p99_ms", limits.max_p99_ms, row.p99_ms, row.p99_ci95_ms),
    ):
        if (most := bound_of(bound, row)) is not None:
            yield _check(row, name, *_latency(row, target, value, interval, most), device=row.device)
    for name, bound, count, written, what in (
        ("max_instructions", limits.max_instructions, row.instructions, figures.millions, "instructions per inference"),
        ("max_peak_rss_bytes", limits.max_peak_rss_bytes, row.peak_rss_bytes, figures.megabytes, "of memory at most"),
    ):
        if (most := bound_of(bound, row)) is not None:
            limit = f"the limit is {written(round(most))}"
            outcome: Outcome = "cannot tell" if count is None else "met" if count <= most else "missed"
            text = f"{_why_not(row)}; {limit}" if count is None else f"{written(count)} {what}; {limit}"
            yield _check(row, name, outcome, text, device=row.device)
    if (least := bound_of(limits.min_accuracy, row)) is not None:
        yield _check(row, "min_accuracy", *_accuracy(row, least), device=row.device)


def _why_not(row: ReportRow) -> str:
    return "not measured yet" if row.device is None else "this device does not tell it"


def _latency(
    row: ReportRow, target: str, value: float | None, interval: tuple[float, float] | None, most: float
) -> tuple[Outcome, str]:
    """Missed when the whole interval is above the limit, met when none of it is; without an interval, as it is."""
    limit = f"the limit is {figures.ms(most)}"
    if row.device is None:
        return "cannot tell", f"not measured yet; {limit}"
    if row.timing == "emulated":
        return "cannot tell", f"{WITHOUT_A_BOARD}; {limit}"
    if value is None:
        return "cannot tell", f"{figures.some(row.runs, 'timed run')} are too few for it; {limit}"
    text = f"{figures.ms(value)}" + (f" (95 %: {figures.ms_range(*interval)})" if interval else " (no interval)")
    if not tells_time(row.timing, target):
        return "cannot tell", f"{WITHOUT_A_BOARD}; on this machine, which is no {target}, {text}; {limit}"
    if row.unfit:
        return "cannot tell", f"{_unfit(row)}; {text}; {limit}"
    low, high = interval or (value, value)
    return ("met" if high <= most else "missed" if low > most else "cannot tell"), f"{text}; {limit}"


def _accuracy(row: ReportRow, least: float) -> tuple[Outcome, str]:
    """Missed when the whole interval is below the limit, met when none of it is; else samples are too few."""
    limit = f"the limit is at least {figures.percent(least, row.labelled)}"
    if row.accuracy is None or row.accuracy_ci95 is None:
        return "cannot tell", f"{'not measured yet' if row.device is None else 'no accuracy was measured'}; {limit}"
    low, high = row.accuracy_ci95
    text = (
        f"{figures.percent(row.accuracy, row.labelled)} of {figures.count(row.labelled)} samples are right "
        f"(95 %: {figures.percent_range(low, high, row.labelled)}); {limit}"
    )
    return ("met" if low >= least else "missed" if high < least else "cannot tell"), text


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
    if row.unfit:
        return "cannot tell", f"{_unfit(row)}; {text}"
    return ("missed" if speed.verdict == "slower" else "met"), text


def _unfit(row: ReportRow) -> str:
    return f"the device was not fit to be measured ({'; '.join(row.unfit)})"


def _check(row: ReportRow, limit: str, outcome: Outcome, text: str, *, device: str | None) -> Check:
    return Check(build=row.build, artifact=row.artifact, device=device, limit=limit, outcome=outcome, text=text)
