"""Rounds of samples drawn again, and how far their statistics spread: what intervals are made of.

Every draw is seeded, so the same rounds always give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rounds: TypeAlias = Sequence[Sequence[int]]
"""Samples of one artifact, one sequence for each visit to it; visits to several artifacts take turns."""

_CHUNK = 1 << 22
_DRAWS = 4000
_SEED = 20_260_101


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Samples in ascending order, each with its round: percentiles of redrawn rounds without re-sorting."""

    ordered: NDArray[np.float64]
    round_of: NDArray[np.int64]

    @classmethod
    def of(cls, rounds: Rounds) -> Clusters:
        """ValueError if there is no round, or an empty one."""
        if not rounds or min(map(len, rounds)) == 0:
            raise ValueError("there is no round, or an empty one")
        values = np.concatenate([np.asarray(samples, dtype=np.float64) for samples in rounds])
        order = np.argsort(values, kind="stable")
        round_of = np.repeat(np.arange(len(rounds)), [len(samples) for samples in rounds])
        return cls(ordered=values[order], round_of=round_of[order])

    def percentiles(self, counts: NDArray[np.int64], percent: float) -> NDArray[np.float64]:
        """A percentile for each row of ``counts``, which takes round i ``counts[row, i]`` times.

        Linear between order statistics, as :func:`edgeq.stats.percentile`. ``counts``
        is (draws, rounds), the result (draws,).
        """
        found = np.empty(len(counts))
        block = max(1, _CHUNK // self.ordered.size)
        for start in range(0, len(counts), block):
            upto = counts[start : start + block, self.round_of].cumsum(axis=1)
            last = upto[:, -1:] - 1
            rank = last * (percent / 100)
            below = np.floor(rank)
            lower, upper = ((upto <= at).sum(axis=1) for at in (below, np.minimum(below + 1, last)))
            share = (rank - below)[:, 0]
            found[start : start + block] = self.ordered[lower] * (1 - share) + self.ordered[upper] * share
        return found


def drawn_rounds(count: int) -> NDArray[np.int64]:
    """How often each of ``count`` rounds is taken in each draw with replacement; shape (draws, count)."""
    return np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), size=_DRAWS)


def expanded_percentiles(values: NDArray[np.float64], rounds: int, confidence: float) -> tuple[float, float]:
    """The percentiles of ``values`` that a t-interval over ``rounds`` rounds would reach to (Hesterberg 2015)."""
    t = student_t_quantile((1 + confidence) / 2, rounds - 1)
    tail = NormalDist().cdf(-math.sqrt(rounds / (rounds - 1)) * t)
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def student_t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t for whole degrees of freedom and ``probability`` above 1/2, by bisection."""
    low, high = 0.0, 1.0
    while _student_t_cdf(high, freedom) < probability:
        high *= 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _student_t_cdf(middle, freedom) < probability else (low, middle)
    return high


def _student_t_cdf(t: float, freedom: int) -> float:
    """Distribution function of Student's t, a finite sum (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine_squared = math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine_squared * k / (k + 1)
    inside = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return 0.5 + inside / 2
