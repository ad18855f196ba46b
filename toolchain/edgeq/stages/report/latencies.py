"""What a clock said of a measurement, in milliseconds: percentiles of its latencies, and their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq import stats

if TYPE_CHECKING:
    from edgeq.records import Measurement


def percentile_ms(measured: Measurement, percent: float) -> float | None:
    """A percentile; None where runs are too few for one in its tail."""
    found = stats.percentile(measured.latencies_ns, percent)
    return None if found is None else found / 1e6


def interval_ms(measured: Measurement, percent: float) -> tuple[float, float] | None:
    """The 95 % interval of a percentile; None where rounds or runs are too few for one."""
    if not measured.rounds:
        return None
    found = stats.percentile_interval(stats.split_rounds(measured.latencies_ns, measured.rounds), percent)
    return None if found is None else (found[0] / 1e6, found[1] / 1e6)
