"""The timing of several artifacts in interleaved rounds, each first held against its golden output."""

from __future__ import annotations

import datetime as dt
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgeq import stats
from edgeq.errors import WrongOutputError
from edgeq.integrity import read_golden
from edgeq.stages.bench.place import bytes_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeq.progress import Progress
    from edgeq.records import Artifact
    from edgeq.runner import Execution
    from edgeq.stages.bench.place import Place

SAME_MODEL_DB = 10.0
"""Below this two outputs are not one model's.

Another core rounds differently, which leaves more than 25 dB between the
int8 outputs of two machines; a kernel that is wrong leaves none.
"""

_PROBING_S = 2.0
"""How long samples are tried beside the timing, to see how long one takes from here."""


@dataclass(kw_only=True)
class Timed:
    """What the rounds gave for one artifact so far."""

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


def time_all(build: Path, place: Place, artifacts: Sequence[Artifact], *, progress: Progress) -> dict[str, Timed]:
    """Time every artifact on its golden input; by name.

    Raises WrongOutputError when what one computes for it has nothing to do
    with what it computed on the build machine.
    """
    how = place.how
    order = random.Random(how.seed)  # noqa: S311  # nobody gains from guessing it
    golden = {artifact.name: read_golden(build, artifact) for artifact in artifacts}
    timed = {artifact.name: Timed(started_at=dt.datetime.now(dt.UTC)) for artifact in artifacts}
    for number, repeats in enumerate(how.rounds, start=1):
        progress.step(f"timing {len(artifacts)} artifacts, round {number} of {len(how.rounds)}")
        for done, artifact in enumerate(order.sample(list(artifacts), k=len(artifacts))):
            progress.advance(done, len(artifacts))
            visit = _Visit(place, artifact, golden[artifact.name])
            timed[artifact.name].add(visit.run(repeats))
    return timed


class _Visit:
    """One process of the runner that times the golden input."""

    def __init__(self, place: Place, artifact: Artifact, golden: tuple[bytes, bytes]) -> None:
        self._place = place
        self._artifact = artifact
        self._golden_input, self._golden_output = golden

    def run(self, repeats: int) -> Execution:
        """Visit the device once."""
        return self._place.run(
            self._artifact,
            warmup=self._place.how.warmup,
            repeats=repeats,
            samples=(self._golden_input,),
            on_outputs=self._take,
        )

    def _take(self, index: int, data: bytes) -> None:
        del index
        if data != self._golden_output:
            sqnr_db = _distance_db(self._artifact, self._golden_output, data)
            if sqnr_db < SAME_MODEL_DB:
                raise WrongOutputError(self._place.transport.name, self._artifact.name, sqnr_db)


def _distance_db(artifact: Artifact, reference: bytes, other: bytes) -> float:
    """How far the worst output is from its reference; minus infinity where they have different sizes."""
    if len(reference) != len(other):
        return -math.inf
    worst, start = math.inf, 0
    for spec in artifact.outputs:
        end = start + bytes_of(spec)
        first, second = (np.frombuffer(data[start:end], dtype=spec.dtype) for data in (reference, other))
        worst = min(worst, stats.sqnr_db(first, second)) if first.size else worst
        start = end
    return worst
