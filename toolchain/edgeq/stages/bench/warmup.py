"""How many runs a fresh process of an artifact needs until it is as fast as it gets: looked for, not assumed.

A visit of many runs, apart from the timed ones, is searched for its last
change of level; if that is too near the end, a longer one. Every visit that
is timed then warms up for so long (one trial run decides for all: Kalibera
and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.stages.bench.timing import Entrant, Visit
from edgeq.steady_state import FEWEST, steady_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.progress import Progress
    from edgeq.runner import Pace

LOOKS = ((60, 10_000), (600, 30_000))
"""Runs of a look and the milliseconds it may take; the second one if the first does not end steady."""


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """After how many runs it is steady, the first not counted; None if that was not seen, () if not looked for."""

    steady_after: int | None = None
    searched_ns: tuple[int, ...] = ()
    khz: int | None = None


def find_warm_up(entrant: Entrant, pace: Pace) -> WarmUp:
    """Look for it on the device, at the pace of the measurement."""
    visit = Visit(entrant)
    found = WarmUp()
    a_run_ms = 0.0
    for runs, most_ms in LOOKS:
        if found.searched_ns and a_run_ms * FEWEST > most_ms:
            break  # at this pace a longer look holds too few runs as well
        seen = visit.run(warmup=0, repeats=runs, pace=pace, most_ms=most_ms)
        times = tuple(run.ns for run in seen.runs)
        a_run_ms = most_ms / len(times) if len(times) < runs else 0.0
        found = WarmUp(steady_after=steady_from(times), searched_ns=times, khz=seen.khz)
        if found.steady_after is not None:
            break
    return found


def find_warm_ups(entrants: Sequence[Entrant], pace: Pace, *, progress: Progress) -> tuple[WarmUp, ...]:
    """That of each; nothing is looked for on an emulated board, whose counts are all alike from the third on."""
    if all(one.place.how.timing == "emulated" for one in entrants):
        return tuple(WarmUp() for _ in entrants)
    progress.step("looking for where each is steady")
    found = []
    for done, entrant in enumerate(entrants):
        progress.advance(done, len(entrants))
        found.append(find_warm_up(entrant, pace))
    return tuple(found)
