"""How far the median of one file moves from one session to the next, as earlier sessions show.

Two sessions are not interleaved: temperature, other users of the machine and
the layout of memory differ between them, and the interval of each knows
nothing of that. What does is how often-measured files differed from
themselves.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.resampling import student_t_quantile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeq.records import Measurement, Observation

MIN_FREEDOM = 4
"""So many degrees of freedom are enough sessions: five of one file, or three each of two files."""

_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviation of the logarithm of a session's median, with its degrees of freedom."""

    deviation: float
    freedom: int

    def interval(self, ratio: float) -> tuple[float, float]:
        """The 95 % interval of a ratio of two sessions' medians: Student's t, as both have that spread."""
        reach = student_t_quantile((1 + _CONFIDENCE) / 2, self.freedom) * self.deviation * math.sqrt(2)
        return ratio * math.exp(-reach), ratio * math.exp(reach)


def conditions(row: Measurement) -> tuple[object, ...]:
    """What must be alike for the latencies of two sessions to be compared at all.

    A number of threads that was chosen as the fastest is like another that was: each is at its best.
    """
    facts = row.device_facts
    placed = "the fastest" if row.tried else (row.threads, row.cpus)
    return (row.device, row.timing, placed, facts.model, facts.cpu, facts.cores, facts.ram_bytes, facts.governor)


def unsuited(row: Measurement) -> str:
    """Why nothing may be told by the latencies of a row; empty if they are as good as others."""
    if row.test_faults:
        return "it was measured with a runner that tests can make slow"
    return f"the device was not fit to be measured: {'; '.join(row.unfit)}" if row.unfit else ""


def between_sessions(earlier: Iterable[Observation], like: Measurement) -> Spread | None:
    """The spread under the conditions of ``like``, pooled over files; None below MIN_FREEDOM.

    Only sessions of one and the same file are compared with each other,
    and only those of the artifact that ``like`` is of: a fast file is noisier
    than a slow one. Pooled variance: squared deviations from each file's
    own mean, over the sessions less one for each file.
    """
    medians: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for one in earlier:
        row = one.measured
        if row is None or row.artifact != like.artifact or not row.latencies_ns:
            continue
        if conditions(row) == conditions(like) and not unsuited(row):
            medians[row.artifact_sha256, row.runner_sha256][row.session] = math.log(statistics.median(row.latencies_ns))
    groups = [list(sessions.values()) for sessions in medians.values()]
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < MIN_FREEDOM:
        return None
    squares = sum((value - statistics.fmean(group)) ** 2 for group in groups for value in group)
    return Spread(deviation=math.sqrt(squares / freedom), freedom=freedom)
