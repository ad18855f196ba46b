"""The timing of several artifacts in interleaved rounds, each first held against its golden output."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeq.integrity import read_golden
from edgeq.records import Artifact
from edgeq.stages.bench.place import Place
from edgeq.stages.deployed import check_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.progress import Progress
    from edgeq.runner import Execution


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """What takes its turn in each round: an artifact of the build in its place, with so many threads."""

    place: Place
    artifact: Artifact
    threads: int


@dataclass(kw_only=True)
class Timed:
    """What the rounds gave for one entrant so far."""

    started_at: dt.datetime
    threads: int = 0
    latencies_ns: tuple[int, ...] = ()
    rounds: tuple[int, ...] = ()
    instructions: tuple[int, ...] = ()
    load_ns: list[int] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    peak_rss_bytes: list[int] = field(default_factory=list)
    planned_bytes: int | None = None

    def add(self, seen: Execution) -> None:
        """Take in one visit."""
        self.threads = seen.threads
        self.latencies_ns += tuple(run.ns for run in seen.runs)
        self.rounds += (len(seen.runs),)
        self.instructions += tuple(run.instructions for run in seen.runs if run.instructions is not None)
        self.load_ns.append(seen.load_ns)
        self.first_ns.append(seen.first.ns)
        if seen.peak_rss_bytes is not None:
            self.peak_rss_bytes.append(seen.peak_rss_bytes)
        self.planned_bytes = seen.planned_bytes


def time_in_turn(
    entrants: Sequence[Entrant], rounds: Sequence[int], *, warmup: int, doing: str, progress: Progress
) -> list[Timed]:
    """Time each entrant on its artifact's golden input, ``rounds[i]`` runs in round i; in the order of ``entrants``.

    Raises WrongOutputError when what an artifact computes for it has nothing
    to do with what it computed on the build machine.
    """
    order = random.Random(entrants[0].place.how.seed)  # noqa: S311  # nobody gains from guessing it
    visits = [_Visit(one, read_golden(one.place.build, one.artifact)) for one in entrants]
    timed = [Timed(started_at=dt.datetime.now(dt.UTC)) for _ in entrants]
    for number, repeats in enumerate(rounds, start=1):
        progress.step(f"{doing}, round {number} of {len(rounds)}")
        for done, index in enumerate(order.sample(range(len(entrants)), k=len(entrants))):
            progress.advance(done, len(entrants))
            timed[index].add(visits[index].run(warmup, repeats))
    return timed


class _Visit:
    """A process of the runner that times the golden input, as often as it is wanted."""

    def __init__(self, entrant: Entrant, golden: tuple[bytes, bytes]) -> None:
        self._place = entrant.place
        self._artifact = entrant.artifact
        self._threads = entrant.threads
        self._golden_input, self._golden_output = golden

    def run(self, warmup: int, repeats: int) -> Execution:
        """Visit the device once."""
        return self._place.run(
            self._artifact,
            threads=self._threads,
            warmup=warmup,
            repeats=repeats,
            samples=(self._golden_input,),
            on_outputs=self._take,
        )

    def _take(self, index: int, data: bytes) -> None:
        del index
        check_output(self._place.transport.name, self._artifact, self._golden_output, data)
