"""The figures of two observations of one artifact, held against each other one by one."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeq import stats
from edgeq.records import Change, Moved, Observation, Verdict
from edgeq.stages.change.spread import MIN_FREEDOM, conditions, unsuited
from edgeq.stages.report import figures
from edgeq.stages.report.evidence import CHANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeq.records import Comparison, Measurement, Tolerances
    from edgeq.stages.change.spread import Spread

SIZE = "size_bytes"
LATENCY = "p50_ms"
INSTRUCTIONS = "instructions"
PEAK_RSS = "peak_rss_bytes"
ACCURACY = "accuracy"

_MOVED: dict[Verdict, Moved] = {"faster": "better", "slower": "worse"}

COMPARE = "compare the two in one session: edgeq compare"


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """One figure on its way to a :class:`Change`."""

    now: Observation
    device: str | None
    name: str
    tolerance: float

    def change(
        self, outcome: Moved, text: str, *, before: float | None, now: float | None, difference: float | None = None
    ) -> Change:
        return Change(
            artifact=self.now.artifact,
            device=self.device,
            figure=self.name,
            before=before,
            now=now,
            difference=difference,
            tolerance=self.tolerance,
            outcome=outcome,
            text=text,
        )

    def exact(self, before: float, now: float, written: Callable[[float], str]) -> Change:
        """A figure without noise, of which less is better: only the tolerance stands between same and not."""
        percent = 100 * (now - before) / max(before, 1)  # a count: none at all becoming some is a change, and finite
        outcome: Moved = "same" if abs(percent) <= self.tolerance else "worse" if percent > 0 else "better"
        text = f"{written(before)}, now {written(now)} ({_percent(percent)}; within {self.tolerance:g} % is the same)"
        return self.change(outcome, text, before=before, now=now, difference=percent)

    def of_ratio(self, low: float, high: float) -> Moved:
        """A latency of two sessions, by the interval of now over before."""
        if self.holds(low, high):
            return "same"
        return "worse" if low > 1 else "better" if high < 1 else "cannot tell"

    def holds(self, low: float, high: float) -> bool:
        """Whether a whole interval of a ratio lies within the tolerance."""
        return 1 - self.tolerance / 100 <= low and high <= 1 + self.tolerance / 100

    def share(self, before: float, now: float) -> Change:
        """A share of the MACs, of which more is better."""
        points = 100 * (now - before)
        outcome: Moved = "same" if abs(points) <= self.tolerance else "better" if points > 0 else "worse"
        text = (
            f"{figures.percent(before)} of the MACs, now {figures.percent(now)} "
            f"({figures.signed(points, 2)} pp; within {self.tolerance:g} pp is the same)"
        )
        return self.change(outcome, text, before=before, now=now, difference=points)


def of_the_file(before: Observation, now: Observation, tolerances: Tolerances) -> Iterator[Change]:
    """What the two files alone tell: size, and the shares of their MACs in int8 and delegated."""
    size = _Figure(now=now, device=None, name=SIZE, tolerance=tolerances.size_percent)
    yield size.exact(before.size_bytes, now.size_bytes, lambda value: figures.megabytes(round(value)))
    for name in ("int8_mac_share", "delegated_mac_share"):
        share = _Figure(now=now, device=None, name=name, tolerance=tolerances.mac_share_pp)
        yield share.share(getattr(before, name), getattr(now, name))


def on_the_device(
    before: Observation,
    now: Observation,
    tolerances: Tolerances,
    spread: Spread | None,
    paired: Comparison | None = None,
) -> Iterator[Change]:
    """What their measurements on one device tell; ``spread`` is how far sessions differ there, None if unknown.

    Where the two took turns in one session, that (``paired``) tells of
    latency. A figure that neither has yields nothing, nor does the clock of
    an emulator.
    """
    first, second = before.measured, now.measured
    if first is None or second is None:
        return
    device = second.device
    if second.timing != "emulated":
        latency = _Figure(now=now, device=device, name=LATENCY, tolerance=tolerances.latency_percent)
        yield _in_turn(latency, paired) if paired else _latency(latency, first, second, spread)
    other = _unlike(first, second)
    if first.instructions is not None or second.instructions is not None:
        figure = _Figure(now=now, device=device, name=INSTRUCTIONS, tolerance=tolerances.instructions_percent)
        other_code = _other_runner(first, second) or _other_precision(before, now, tolerances)
        yield _count(figure, first, second, figures.millions, other or other_code)
    if first.peak_rss_bytes is not None or second.peak_rss_bytes is not None:
        figure = _Figure(now=now, device=device, name=PEAK_RSS, tolerance=tolerances.peak_rss_percent)
        yield _count(figure, first, second, figures.megabytes, other)
    if first.correct is not None and second.correct is not None and first.labelled and second.labelled:
        figure = _Figure(now=now, device=device, name=ACCURACY, tolerance=tolerances.accuracy_pp)
        yield _accuracy(figure, before, now)


def _count(
    figure: _Figure, first: Measurement, second: Measurement, written: Callable[[int], str], other: str
) -> Change:
    """Instructions or memory: the same from run to run on one core; ``other`` says what stands between the two."""
    before, now = getattr(first, figure.name), getattr(second, figure.name)
    if before is None or now is None:
        return figure.change("cannot tell", "one of the two does not have it", before=before, now=now)
    if other:
        text = f"{written(before)}, now {written(now)}: {other}"
        return figure.change("cannot tell", text, before=before, now=now)
    return figure.exact(before, now, lambda value: written(round(value)))


def _unlike(first: Measurement, second: Measurement) -> str:
    """What stands between two rows whose costs are to be compared; empty if nothing does."""
    for what, before, now in (
        ("clocks of different kinds", first.timing, second.timing),
        ("different cores", first.device_facts.cpu, second.device_facts.cpu),
        ("different numbers of threads", first.threads, second.threads),
    ):
        if before != now:
            return f"{what}: {before}, now {now}"
    return ""


def _other_runner(first: Measurement, second: Measurement) -> str:
    if first.runner_sha256 == second.runner_sha256:
        return ""
    return f"different builds of the runner: {first.runner_sha256[:12]}, now {second.runner_sha256[:12]}"


def _other_precision(before: Observation, now: Observation, tolerances: Tolerances) -> str:
    """Across precisions a count of instructions says nothing of time: docs/measuring.md."""
    if 100 * abs(before.int8_mac_share - now.int8_mac_share) <= tolerances.mac_share_pp:
        return ""
    shares = f"{figures.percent(before.int8_mac_share)} of the MACs in int8, now {figures.percent(now.int8_mac_share)}"
    return f"different precisions: {shares}"


def _latency(figure: _Figure, first: Measurement, second: Measurement, spread: Spread | None) -> Change:
    """Two sessions are not interleaved: only a difference beyond the usual one between sessions is one."""
    if first.timing == "emulated" or not (first.latencies_ns and second.latencies_ns):
        return figure.change("cannot tell", "one of the two has no latency", before=None, now=None)
    before, now = (statistics.median(row.latencies_ns) / 1e6 for row in (first, second))
    percent = 100 * (now / before - 1)
    text = f"{figures.ms(before)}, now {figures.ms(now)} ({_percent(percent)})"
    if conditions(first) != conditions(second):
        why = _unlike(first, second) or "the device is another, or set otherwise"
        return figure.change("cannot tell", f"{text}: {why}", before=before, now=now)
    if unfit := unsuited(first) or unsuited(second):
        return figure.change("cannot tell", f"{text}: {unfit}", before=before, now=now)
    if spread is None:
        why = f"two sessions, and the history has fewer than {MIN_FREEDOM + 1} of one file to tell how far they differ"
        return figure.change("cannot tell", f"{text}: {why}; {COMPARE}", before=before, now=now, difference=percent)
    low, high = spread.interval(now / before)
    outcome = figure.of_ratio(low, high)
    ask = f"; {COMPARE}" if outcome == "cannot tell" else ""
    text = f"{text} ({_reach(low, high)}, as sessions differ there){ask}"
    return figure.change(outcome, text, before=before, now=now, difference=percent)


def _in_turn(figure: _Figure, paired: Comparison) -> Change:
    """Both took turns in one session: the interval of their ratio is that of the session."""
    before, now = paired.reference.p50_ms, paired.candidate.p50_ms
    if before is None or now is None or paired.low is None or paired.high is None or not paired.low:
        return figure.change("cannot tell", f"in one session: {paired.reason}", before=before, now=now)
    low, high = 1 / paired.high, 1 / paired.low  # there the ratio is the reference over the candidate
    percent = 100 * (now / before - 1)
    text = (
        f"{figures.ms(before)}, now {figures.ms(now)} ({_percent(percent)}, {_reach(low, high)}, in turn in one "
        f"session of edgeq compare, {figures.moment(paired.started_at)})"
    )
    outcome = "same" if figure.holds(low, high) else _MOVED.get(paired.verdict, "cannot tell")
    return figure.change(outcome, text, before=before, now=now, difference=percent)


def _reach(low: float, high: float) -> str:
    return f"95 %: {_percent(100 * (low - 1))} to {_percent(100 * (high - 1))}"


def _accuracy(figure: _Figure, before: Observation, now: Observation) -> Change:
    """Paired on the samples that both ran; by two intervals where they cannot be paired."""
    common = min(len(before.right), len(now.right))
    if not common or before.labels_sha256 != now.labels_sha256:
        return _unpaired(figure, before, now)
    first, second = (np.frombuffer(one.right[:common].encode(), np.uint8) == ord("1") for one in (before, now))
    paired = stats.paired_drop(first, second)
    outcome: Moved = "cannot tell"
    if before.artifact_sha256 == now.artifact_sha256 and not (paired.lost or paired.gained):
        outcome = "same"
    elif paired.drop_pp > figure.tolerance and paired.p_value <= CHANCE:
        outcome = "worse"
    elif -figure.tolerance <= paired.low_pp and paired.high_pp <= figure.tolerance:
        outcome = "same"
    elif paired.high_pp <= 0:
        outcome = "better"
    text = (
        f"{figures.of_total(int(first.sum()), common)} right, now {figures.of_total(int(second.sum()), common)} of the "
        f"same samples ({figures.points(-paired.drop_pp, common)}, 95 %: {figures.signed(-paired.high_pp, 2)} to "
        f"{figures.signed(-paired.low_pp, 2)} pp, {figures.p_value(paired.p_value)}; within {figure.tolerance:g} pp "
        "is the same)"
    )
    return figure.change(
        outcome, text, before=float(first.mean()), now=float(second.mean()), difference=-paired.drop_pp
    )


def _unpaired(figure: _Figure, before: Observation, now: Observation) -> Change:
    """Wilson's intervals of both: apart is a difference, and overlapping tells nothing."""
    counts = [(row.correct, row.labelled) for row in (before.measured, now.measured) if row and row.correct is not None]
    (right, total), (right_now, total_now) = counts
    first, second = stats.wilson_interval(right, total), stats.wilson_interval(right_now, total_now)
    outcome: Moved = "worse" if second[1] < first[0] else "better" if second[0] > first[1] else "cannot tell"
    text = (
        f"{figures.of_total(right, total)} right ({figures.percent_range(*first, total)}), now "
        f"{figures.of_total(right_now, total_now)} ({figures.percent_range(*second, total_now)}), of samples that "
        "cannot be paired"
    )
    points = 100 * (right_now / total_now - right / total)
    return figure.change(outcome, text, before=right / total, now=right_now / total_now, difference=points)


def _percent(value: float) -> str:
    return f"{figures.signed(value, 1 if abs(value) >= 1 else 2)} %"
