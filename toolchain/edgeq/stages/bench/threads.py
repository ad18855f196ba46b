"""How many threads suit an artifact on a device: tried, as no rule tells.

More threads make a large layer faster and a small one slower (each hand-over
costs microseconds), in each runtime at another point. So every artifact gets
a few short rounds with each number, all of them in turn, and then the fewest
threads that are as good as the best.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq import stats
from edgeq.records import ThreadsTried
from edgeq.stages.bench.timing import Entrant, time_in_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.progress import Progress
    from edgeq.records import Artifact
    from edgeq.stages.bench.place import Place

ROUNDS = (5, 5, 5)
"""Runs of each round; enough to tell numbers of threads apart that differ by more than a few percent."""

_MOST_WARMUP = 3

_AS_GOOD = 1 + stats.SAME_WITHIN
"""Of the numbers within so much of the best median the fewest threads are taken: the app has other work as well."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The number of threads for an artifact, and the runs it was chosen by; none where there was no choice."""

    threads: int
    tried: tuple[ThreadsTried, ...] = ()


def choose_threads(place: Place, artifacts: Sequence[Artifact], *, progress: Progress) -> dict[str, Choice]:
    """Try every number of the settings with every artifact; by the artifact's name."""
    how = place.how
    if len(how.threads) == 1:
        return {artifact.name: Choice(threads=how.threads[0]) for artifact in artifacts}
    entrants = [
        Entrant(place=place, artifact=artifact, threads=threads) for artifact in artifacts for threads in how.threads
    ]
    timed = time_in_turn(
        entrants,
        ROUNDS,
        warmup=min(how.warmup, _MOST_WARMUP),
        doing=f"trying {', '.join(map(str, how.threads))} threads",
        progress=progress,
    )
    tried: dict[str, list[ThreadsTried]] = {artifact.name: [] for artifact in artifacts}
    for entrant, seen in zip(entrants, timed, strict=True):
        tried[entrant.artifact.name].append(
            ThreadsTried(threads=entrant.threads, latencies_ns=seen.latencies_ns, rounds=seen.rounds)
        )
    return {name: Choice(threads=fastest(each), tried=tuple(each)) for name, each in tried.items()}


def fastest(tried: Sequence[ThreadsTried]) -> int:
    """The fewest threads whose median is within two percent of the least."""
    medians = {one.threads: statistics.median(one.latencies_ns) for one in tried}
    least = min(medians.values())
    return min(threads for threads, median in medians.items() if median <= least * _AS_GOOD)
