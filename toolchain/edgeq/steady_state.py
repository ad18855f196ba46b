"""Where a series of times stops changing its level: pure numbers, no input or output.

A fresh process is slow at first: pages are touched, caches fill, the clock
of an idle core rises. How long that lasts cannot be assumed (Barrett et al.,
Virtual Machine Warmup Blows Hot and Cold, OOPSLA 2017): it is looked for.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq.stats import SAME_WITHIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.resampling import Rounds

FEWEST = 20
"""In fewer runs than this a change of level cannot be told from noise."""

_Numbers: TypeAlias = NDArray[np.float64]

_EDGE = 3
"""So many runs at least on either side of a change: fewer are outliers."""
_FALSE_ALARMS = 0.01
_DRAWS = 2000
_SEED = 20_260_102


def change_of_level(samples: Sequence[float]) -> int | None:
    """Where ``samples`` go to another level for good: the index of the first one there; None if they do not.

    The largest of the standardised rank sums over every point where the
    series may be cut in two, as in Pettitt (A Non-parametric Approach to the
    Change-point Problem, Applied Statistics 28, 1979), standardised as in
    Hawkins and Deng (A Nonparametric Change-point Control Chart, Journal of
    Quality Technology 42, 2010), and held against what it comes to in one of
    a hundred series of that length without a change. Ranks do not mind
    spikes. Of several such points the clearest counts. A change of the
    median by less than :data:`~edgeq.stats.SAME_WITHIN` is none: nothing is
    decided by it, and in noise that is not independent some would always be
    found.
    """
    values = np.asarray(samples, dtype=np.float64)
    if len(values) < FEWEST:
        return None
    scanned = _scan(_ranks(values)[np.newaxis])[0]
    for index in np.argsort(-scanned):
        if scanned[index] <= _threshold(len(values)):
            return None
        at = int(index) + _EDGE
        before, after = np.median(values[:at]), np.median(values[at:])
        if abs(after - before) > SAME_WITHIN * min(before, after):
            return at
    return None


def steady_from(samples: Sequence[float]) -> int | None:
    """The index from which on the level does not change any more; None if it still does where the series ends.

    What lies before a change is cut off until there is none in the rest
    (binary segmentation: Scott and Knott, Biometrics 30, 1974, of which only
    the last segment is of interest). Also None for fewer than
    :data:`FEWEST` samples.
    """
    start = 0
    while len(samples) - start >= FEWEST:
        at = change_of_level(samples[start:])
        if at is None:
            return start
        start += at
    return None


def by_position(rounds: Rounds) -> tuple[float, ...]:
    """The level at each position of the rounds: the median over the rounds, each divided by its own median.

    One round may be too short and too noisy to show that its first runs are
    slower; what comes back in each round stands out in all of them together.
    """
    shortest = min(len(each) for each in rounds)
    levels = [np.asarray(each[:shortest], dtype=np.float64) / np.median(each) for each in rounds]
    return tuple(np.median(levels, axis=0).tolist())


def _ranks(values: _Numbers) -> _Numbers:
    """Ranks from 1 on; equal values have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: _Numbers = (last - (counts - 1) / 2)[place]
    return ranks


def _scan(ranks: _Numbers) -> _Numbers:
    """For each row of ``ranks`` the standardised rank sum of its head, for every length that leaves an edge.

    Shape (rows, runs) to (rows, runs - 2 edges + 1).
    """
    runs = ranks.shape[1]
    heads = np.arange(_EDGE, runs - _EDGE + 1)
    sums = np.cumsum(ranks, axis=1)[:, heads - 1]
    spread = np.sqrt(heads * (runs - heads) * (runs + 1) / 12)
    scanned: _Numbers = np.abs(sums - heads * (runs + 1) / 2) / spread
    return scanned


@functools.cache
def _threshold(runs: int) -> float:
    """What the largest of the scan exceeds in one of a hundred random orders of ``runs`` ranks, by drawing them."""
    draws = np.random.default_rng(_SEED).permuted(np.tile(np.arange(1.0, runs + 1), (_DRAWS, 1)), axis=1)
    return float(np.quantile(_scan(draws).max(axis=1), 1 - _FALSE_ALARMS))
