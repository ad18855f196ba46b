"""One session on a device: everything in turn, warm, and the device looked at before, during and after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeq.device.health import read_state
from edgeq.records import DeviceState
from edgeq.stages.bench.fitness import Unfit, clock_moved, fit_state, refuse, unfit
from edgeq.stages.bench.timing import Entrant, Timed, time_in_turn
from edgeq.stages.bench.warmup import WarmUp, find_warm_ups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeq.progress import Progress
    from edgeq.stages.bench.place import Place


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was timed, an entry for each entrant in their order, and how the device was doing meanwhile.

    ``unfit`` has a reason of each kind for which the device was not fit.
    """

    entrants: tuple[Entrant, ...]
    timed: tuple[Timed, ...]
    warm_ups: tuple[WarmUp, ...]
    states: tuple[DeviceState, ...]
    unfit: tuple[str, ...]


def take(place: Place, choose: Callable[[], Sequence[Entrant]], *, progress: Progress) -> Taken:
    """Time what ``choose`` gives, which is asked once the device is known to be fit; ``place`` says where and how.

    Raises UnfitDeviceError if the device is too busy, too hot or changes
    its clock, and ``place.how`` does not force it.
    """
    transport, how = place.transport, place.how
    before, not_fit = fit_state(transport, place.deployment.device_facts, how, progress=progress)
    entrants = tuple(choose())
    warm_ups = find_warm_ups(entrants, how.pace, progress=progress)
    if how.timing == "hardware":  # a machine that people work at changes its clock all the time: its rows say so
        refuse(transport.name, tuple(clock_moved([khz for one in warm_ups for khz in one.khz], before, how)), how)
    states = [before]

    def look() -> None:
        if how.timing != "emulated":
            states.append(read_state(transport, watch_s=0))

    timed = time_in_turn(
        [replace(one, warmup=warm_up.steady_after or 0) for one, warm_up in zip(entrants, warm_ups, strict=True)],
        how.rounds,
        warmup=how.warmup,
        doing=f"timing {len(entrants)} artifacts",
        pace=how.pace,
        before_each=look,
        progress=progress,
    )
    states.append(read_state(transport))
    return Taken(
        entrants=entrants,
        timed=tuple(timed),
        warm_ups=warm_ups,
        states=tuple(states),
        unfit=_not_fit(not_fit, states, timed, place),
    )


def _not_fit(
    before: Sequence[Unfit], states: Sequence[DeviceState], timed: Sequence[Timed], place: Place
) -> tuple[str, ...]:
    """Why the device was not fit, before (where that was forced), meanwhile and after; one reason of each kind."""
    found = [*before, *(one for state in states[1:] for one in unfit(state, place.deployment.device_facts, place.how))]
    found += [one for seen in timed for one in clock_moved(seen.khz, states[0], place.how)]
    return tuple({one.kind: one.reason for one in reversed(found)}.values())
