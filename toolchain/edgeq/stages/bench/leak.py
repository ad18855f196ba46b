"""Whether a process needs more and more memory the longer it runs a model."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

from edgeq.errors import RunnerProtocolError
from edgeq.records import LeakCheck
from edgeq.stages.bench.timing import Entrant, Visit

if TYPE_CHECKING:
    from collections.abc import Sequence


Verdict = Literal["grows", "does not grow", "cannot tell"]

RUNS = 1000
EVERY = 100
NOISE_BYTES = 64 << 10
"""What an allocator may take in a thousand runs without a leak: one page of the largest kind, 16 of the usual."""


def check_leak(entrant: Entrant) -> LeakCheck:
    """Run the artifact a thousand times in one process and look at its memory after each hundred."""
    seen = Visit(entrant).run(warmup=0, repeats=RUNS, memory_every=EVERY)
    looks = [(one.runs, one.anonymous_bytes) for one in seen.resources if one.runs % EVERY == 0]
    sizes = tuple(size for _, size in looks if size is not None)
    if len(looks) != RUNS // EVERY:
        raise RunnerProtocolError(
            entrant.place.transport.name, f"it told {len(looks)} of {RUNS // EVERY} times what it holds"
        )
    grew, verdict = judge(sizes)
    return LeakCheck(runs=tuple(runs for runs, _ in looks), anonymous_bytes=sizes, grew_bytes=grew, verdict=verdict)


def judge(sizes: Sequence[int]) -> tuple[int, Verdict]:
    """How much the memory grew over the looks, and whether that is a leak.

    A leak grows again and again: in at least half of the steps, and beyond
    what an allocator rounds to. What grew beyond it in a few early steps and
    then no more, over half of all runs, was needed once. Where that came
    late nobody can tell, nor without looks.
    """
    if not sizes:
        return 0, "cannot tell"
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    grew = sizes[-1] - sizes[0]
    if grew <= NOISE_BYTES:
        return grew, "does not grow"
    if sum(step > 0 for step in steps) >= len(steps) / 2:
        return grew, "grows"
    lately = sizes[-1] - sizes[(len(sizes) - 1) // 2]
    return grew, "does not grow" if lately <= NOISE_BYTES // 2 else "cannot tell"
