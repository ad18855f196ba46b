"""How many instructions an operator retires, from how long it took on an emulated board.

The clock of such a board advances by instructions (``-icount``), so that the
time of an operator is a count of them: what one takes in nanoseconds is
calibrated on the very inference, whose instructions are counted as a whole.
An interrupt of the kernel falls into one inference of some operator and not
into the next: the median leaves it out.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.runner import Execution, OperatorTimes

_HALF_A_TICK_NS = 500
"""XNNPACK cuts off what is less than a microsecond: half of one is added back."""


def rates_of(visits: Sequence[Execution]) -> tuple[float, ...] | None:
    """Instructions for a nanosecond of each profiled inference; None where they are not counted, or of many threads."""
    runs = [run for visit in visits for run in visit.runs]
    counted = [run.instructions / run.ns for run in runs if run.instructions is not None and run.ns]
    if len(counted) != len(runs) or any(visit.threads != 1 for visit in visits):
        return None
    return tuple(counted)


def instructions_of(timed: OperatorTimes, ns: Sequence[int], rates: Sequence[float] | None) -> int | None:
    """What an operator retires in one inference; ``ns[i]`` of it at ``rates[i]``.

    Half a microsecond (250 instructions on the boards that edgeq starts) is
    how far it may be off. None for a delegate's call and for ONNX Runtime's
    nodes: the profiler works inside of what is timed there.
    """
    if rates is None or timed.accelerated or timed.place == "delegate":
        return None
    cut_off = _HALF_A_TICK_NS if timed.place == "delegated" else 0
    return round(statistics.median((one + cut_off) * rate for one, rate in zip(ns, rates, strict=True)))


def middle_of(counts: Sequence[int | None]) -> int | None:
    """The instructions of a typical inference; None if any of them was not counted, or there is none."""
    known = [count for count in counts if count is not None]
    return statistics.median_low(known) if known and len(known) == len(counts) else None
