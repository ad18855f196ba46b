"""What a reader must know of how a row was measured: the device, the warm-up, the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq import stats
from edgeq.stages.report import figures
from edgeq.steady_state import FEWEST, by_position, steady_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.records import Measurement


def notes(measured: Measurement) -> Iterator[str]:
    """Sentences that belong beside the row's figures; none where all was as it should be."""
    if measured.test_faults:
        yield "measured by a runner that tests can make slow: nothing may be decided by it"
    yield from (f"the device was not fit to be measured: {reason}" for reason in measured.unfit)
    yield from _level(measured)
    leak = measured.leak
    if leak is not None and leak.verdict != "does not grow":
        looked = f"over {leak.runs[-1] - leak.runs[0]} inferences"
        grew = f"{figures.megabytes(leak.grew_bytes)} {looked}"
        grows = f"its memory grows by {grew}, again and again: a leak"
        maybe = f"its memory grew by {grew}, in few steps, and late: look again with --leak-check"
        unread = "whether its memory grows cannot be told: the device does not say what a process holds"
        yield grows if leak.verdict == "grows" else maybe if leak.anonymous_bytes else unread


def _level(measured: Measurement) -> Iterator[str]:
    """Whether the timed runs are at the level where they stay."""
    searched = min(map(len, measured.steady_search_ns), default=0)
    if measured.steady_search_ns and measured.steady_after is None:
        few = f"only {searched} runs fitted in the time for it" if searched < FEWEST else f"in {searched} runs"
        yield f"no steady level was found ({few}): its times may depend on how long it ran"
        return
    if measured.timing == "emulated" or len(measured.rounds) < stats.MIN_ROUNDS or min(measured.rounds) < FEWEST:
        return
    times = measured.executions_ns or measured.latencies_ns
    if steady_from(by_position(stats.split_rounds(times, measured.rounds))) != 0:
        yield "within the timed runs of each visit its level still changed: it needs a longer warm-up than was found"
