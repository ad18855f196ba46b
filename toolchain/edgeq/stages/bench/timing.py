"""The timing of several artifacts in interleaved rounds, each first held against its golden output."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgeq.integrity import read_golden
from edgeq.records import Artifact
from edgeq.runner import BACK_TO_BACK, Pace
from edgeq.stages.bench.place import Place
from edgeq.stages.deployed import check_output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeq.progress import Progress
    from edgeq.runner import Execution


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """What takes its turn in each round: an artifact of the build in its place, with so many threads.

    It is warmed up for at least ``warmup`` runs.
    """

    place: Place
    artifact: Artifact
    threads: int
    warmup: int = 0


@dataclass(kw_only=True)
class Timed:
    """What the rounds gave for one entrant so far."""

    started_at: dt.datetime
    threads: int = 0
    warmup: int = 0
    latencies_ns: tuple[int, ...] = ()
    executions_ns: tuple[int, ...] = ()
    before_ns: tuple[int, ...] = ()
    spans_ns: list[int] = field(default_factory=list)
    rounds: tuple[int, ...] = ()
    instructions: tuple[int, ...] = ()
    load_ns: list[int] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    peak_rss_bytes: list[int] = field(default_factory=list)
    planned_bytes: int | None = None
    cold_start_ns: list[int] = field(default_factory=list)
    load_rss_bytes: list[int] = field(default_factory=list)
    load_anonymous_bytes: list[int] = field(default_factory=list)
    khz: list[int | None] = field(default_factory=list)
    cpus: tuple[int, ...] = ()
    not_pinned: str = ""
    test_faults: bool = False

    def add(self, seen: Execution) -> None:
        """Take in one visit."""
        self.threads = seen.threads
        self.warmup = len(seen.warmup)
        self.before_ns += tuple(run.ns for run in (seen.first, *seen.warmup))
        if all(run.latency_ns is not None for run in seen.runs):
            self.latencies_ns += tuple(run.latency_ns for run in seen.runs if run.latency_ns is not None)
            self.executions_ns += tuple(run.ns for run in seen.runs)
        else:
            self.latencies_ns += tuple(run.ns for run in seen.runs)
        first, last = seen.runs[0], seen.runs[-1]
        if first.at_ns is not None and last.at_ns is not None:
            self.spans_ns.append(last.at_ns + last.ns - first.at_ns)
        self.rounds += (len(seen.runs),)
        self.instructions += tuple(run.instructions for run in seen.runs if run.instructions is not None)
        self.load_ns.append(seen.load_ns)
        self.first_ns.append(seen.first.ns)
        if seen.peak_rss_bytes is not None:
            self.peak_rss_bytes.append(seen.peak_rss_bytes)
        self.planned_bytes = seen.planned_bytes
        self._add_process(seen)

    def _add_process(self, seen: Execution) -> None:
        """What the visit says of its process, beside its runs."""
        if seen.ready_ns is not None:
            self.cold_start_ns.append(seen.ready_ns + seen.first.ns)
        if seen.load_rss_bytes is not None:
            self.load_rss_bytes.append(seen.load_rss_bytes)
        if seen.load_anonymous_bytes is not None:
            self.load_anonymous_bytes.append(seen.load_anonymous_bytes)
        self.khz.append(seen.khz)
        self.cpus, self.not_pinned = seen.cpus, seen.not_pinned
        self.test_faults |= seen.test_faults


def time_in_turn(  # noqa: PLR0913  # a measurement has this many sides
    entrants: Sequence[Entrant],
    rounds: Sequence[int],
    *,
    warmup: int,
    doing: str,
    pace: Pace = BACK_TO_BACK,
    before_each: Callable[[], None] = lambda: None,
    progress: Progress,
) -> list[Timed]:
    """Time each entrant on its artifact's golden input, ``rounds[i]`` runs in round i; in the order of ``entrants``.

    ``before_each`` is called before each round. Raises WrongOutputError when
    what an artifact computes for it has nothing to do with what it computed
    on the build machine.
    """
    order = random.Random(entrants[0].place.how.seed)  # noqa: S311  # nobody gains from guessing it
    visits = [Visit(entrant) for entrant in entrants]
    timed = [Timed(started_at=dt.datetime.now(dt.timezone.utc)) for _ in entrants]
    for number, repeats in enumerate(rounds, start=1):
        progress.step(f"{doing}, round {number} of {len(rounds)}")
        before_each()
        for done, index in enumerate(order.sample(range(len(entrants)), k=len(entrants))):
            progress.advance(done, len(entrants))
            runs = max(warmup, entrants[index].warmup)
            timed[index].add(visits[index].run(warmup=runs, repeats=repeats, pace=_drawn(pace, number)))
    return timed


def _drawn(pace: Pace, number: int) -> Pace:
    """Other arrivals in each round, the same for all artifacts."""
    return replace(pace, seed=number)


class Visit:
    """Processes of the runner that run an artifact on its golden input."""

    def __init__(self, entrant: Entrant) -> None:
        self._place = entrant.place
        self._artifact = entrant.artifact
        self._threads = entrant.threads
        self._golden_input, self._golden_output = read_golden(entrant.place.build, entrant.artifact)

    def run(
        self,
        *,
        warmup: int,
        repeats: int,
        pace: Pace = BACK_TO_BACK,
        most_ms: int | None = None,
        memory_every: int | None = None,
    ) -> Execution:
        """One such process. Raises WrongOutputError if the output has nothing to do with the build machine's."""
        return self._place.run(
            self._artifact,
            threads=self._threads,
            warmup=warmup,
            repeats=repeats,
            samples=(self._golden_input,),
            on_outputs=self._take,
            pace=pace,
            most_ms=most_ms,
            memory_every=memory_every,
        )

    def _take(self, index: int, data: bytes) -> None:
        del index
        check_output(self._place.transport.name, self._artifact, self._golden_output, data)
