"""How many runs a fresh process of an artifact needs until it is as fast as it gets: looked for, not assumed.

A few visits of many runs, apart from the timed ones, are searched together
for the last change of level that they share; if that is too near their end,
longer ones. Every visit that is timed then warms up for so long (what trial
runs show is used for all: Kalibera and Jones, Rigorous Benchmarking in
Reasonable Time, ISMM 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.stages.bench.timing import Entrant, Visit
from edgeq.steady_state import FEWEST, by_position, steady_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.progress import Progress
    from edgeq.runner import Pace

VISITS = 3
"""What all of them show is the process's own; what one of them shows may be somebody else's work."""

LOOKS = ((40, 4_000), (400, 20_000))
"""Runs of each visit and the milliseconds it may take; the second ones if the first do not end steady."""


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """After how many runs it is steady, the first not counted; None if that was not seen, or not looked for.

    ``searched_ns`` are the runs of each visit, () if it was not looked for,
    ``khz`` the frequency right after each.
    """

    steady_after: int | None = None
    searched_ns: tuple[tuple[int, ...], ...] = ()
    khz: tuple[int | None, ...] = ()


def find_warm_up(entrant: Entrant, pace: Pace) -> WarmUp:
    """Look for it on the device, at the pace of the measurement."""
    visit = Visit(entrant)
    found = WarmUp()
    for runs, most_ms in LOOKS:
        if found.searched_ns and _holds(found, most_ms) < FEWEST:
            break  # at this pace a longer look is too short as well
        seen = [visit.run(warmup=0, repeats=runs, pace=pace, most_ms=most_ms) for _ in range(VISITS)]
        searched = tuple(tuple(run.ns for run in each.runs) for each in seen)
        steady = steady_from(by_position(searched))
        found = WarmUp(steady_after=steady, searched_ns=searched, khz=tuple(each.khz for each in seen))
        if steady is not None:
            break
    return found


def _holds(found: WarmUp, most_ms: int) -> float:
    """How many runs fit into that time, if those that were seen filled theirs."""
    (runs, ms), fitted = LOOKS[0], min(map(len, found.searched_ns))
    return float("inf") if fitted == runs else fitted * most_ms / ms


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
