"""How many instructions an operator retires, from how long it took on an emulated board.

The clock of such a board advances by instructions (``-icount``), so that the
time of an operator is a count of them. How many there are in a nanosecond
tells the inference whose instructions are counted as a whole. Where the
kernel or another process had the core for a while, the clock went on and the
count did not: so the inference with most of them in a nanosecond is
taken, and of an operator's times the median.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.runner import Execution, OperatorTimes

_HALF_A_TICK_NS = 500
"""XNNPACK cuts off what is less than a microsecond: half of one is added back."""


def rate_of(visits: Sequence[Execution]) -> float | None:
    """Instructions in a nanosecond of the least disturbed inference; None where none are counted, or of threads."""
    runs = [run for visit in visits for run in visit.runs]
    rates = [run.instructions / run.ns for run in runs if run.instructions is not None and run.ns]
    if not rates or len(rates) != len(runs) or any(visit.threads != 1 for visit in visits):
        return None
    return max(rates)


def instructions_of(timed: OperatorTimes, ns: Sequence[int], rate: float | None) -> int | None:
    """What an operator that took ``ns`` retires in one inference.

    Half a microsecond (250 instructions on the boards that edgeq starts) is
    how far it may be off. None for a delegate's call and for ONNX Runtime's
    nodes: the profiler works inside of what is timed there.
    """
    if rate is None or timed.accelerated or timed.place == "delegate":
        return None
    cut_off = _HALF_A_TICK_NS if timed.place == "delegated" else 0
    return round((statistics.median(ns) + cut_off) * rate)


def middle_of(counts: Sequence[int | None]) -> int | None:
    """The instructions of a typical inference; None if any of them was not counted, or there is none."""
    known = [count for count in counts if count is not None]
    return statistics.median_low(known) if known and len(known) == len(counts) else None
