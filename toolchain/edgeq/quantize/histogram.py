"""Counts of values in bounded memory, and the int8 range that fits them best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

_BINS = 4096
"""The most bins there may be; at least half of them are in use once the range has settled."""

_STEPS = 64
"""Candidates for each end of a range."""

_FINEST = -112
"""The binary exponent of the narrowest bin: the largest factor that float32 holds with room to spare."""


class Histogram:
    """Counts of values in bins of a power-of-two width, bin ``i`` holding ``i * width <= x < (i + 1) * width``.

    The width is the smallest at which zero and every value fit into a fixed
    number of bins, and a wider bin is a whole number of narrower ones. So
    what is counted depends on the values alone, not on their order, and two
    histograms add up to just what one of both would have been. Exact zeros
    are counted apart: they are exact in int8 at any scale. NaN and infinity
    do not belong here.
    """

    def __init__(self) -> None:
        self.zeros = 0
        """Values that are exactly zero."""
        self.exponent = _FINEST
        """A bin is 2 to this power wide."""
        self.first = 0
        """The number of the first bin; never above 0."""
        self.counts: np.ndarray = np.zeros(1, dtype=np.int64)
        """Values in each bin, without exact zeros."""

    @property
    def width(self) -> float:
        """The width of a bin."""
        return float(2.0**self.exponent)

    @property
    def centers(self) -> np.ndarray:
        """The middle of each bin, float64."""
        centers: np.ndarray = (self.first + np.arange(len(self.counts)) + 0.5) * self.width
        return centers

    def add(self, values: torch.Tensor, low: float, high: float) -> None:
        """Count ``values``, none of which is below ``low`` or above ``high``."""
        if low == high == 0.0:
            self.zeros += values.numel()
            return
        finest = 2.0**-_FINEST
        self._make_room(math.floor(low * finest), math.floor(high * finest), _FINEST)
        bins = torch.floor(values.detach().reshape(-1).float() * (2.0**-self.exponent)).sub_(self.first)
        counted = torch.bincount(bins.to(torch.int32), minlength=len(self.counts)).numpy()
        zeros = int(np.count_nonzero(values.detach().numpy() == 0))
        self.zeros += zeros
        self.counts += counted
        self.counts[-self.first] -= zeros

    def merged(self, *others: Histogram) -> Histogram:
        """The histogram of the values of this one and of ``others``."""
        result = Histogram.from_state(self.state())
        for other in others:
            result.zeros += other.zeros
            result._make_room(other.first, other.first + len(other.counts) - 1, other.exponent)  # noqa: SLF001  # its own
            bins = (other.first + np.arange(len(other.counts))) >> (result.exponent - other.exponent)
            np.add.at(result.counts, bins - result.first, other.counts)
        return result

    def clamped(self, low: float, high: float) -> Histogram:
        """The histogram of the same values, each cut to between ``low`` (<= 0) and ``high`` (>= 0), by whole bins."""
        result = Histogram.from_state(self.state())
        counts = result.counts
        first, last = self._bin(low), self._bin(high)
        for end, beyond in ((low, slice(0, first)), (high, slice(last + 1 if high else last, None))):
            cut = int(counts[beyond].sum())
            counts[beyond] = 0
            if end:
                counts[first if end < 0 else last] += cut
            else:
                result.zeros += cut
        return result

    def _bin(self, value: float) -> int:
        """The place in ``counts`` of the bin that holds ``value``, or the end that is nearer."""
        last = len(self.counts) - 1
        return int(min(max(value / self.width - self.first, 0.0), float(last)))

    def state(self) -> dict[str, np.ndarray]:
        """Everything there is to keep, as plain arrays."""
        return {"counts": self.counts, "place": np.array([self.exponent, self.first, self.zeros], dtype=np.int64)}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Histogram:
        """The histogram that gave ``state``."""
        result = cls()
        result.exponent, result.first, result.zeros = (int(value) for value in state["place"])
        result.counts = state["counts"].astype(np.int64)
        return result

    def range_of_least_error(self, minimum: float, maximum: float, *, levels: int) -> tuple[float, float]:
        """The range inside ``minimum`` (<= 0) to ``maximum`` (>= 0) that costs least when cut into ``levels`` steps.

        The cost is the squared error over all values counted: a twelfth of
        the squared step inside the range, the squared distance to its end
        outside.
        """
        fractions = np.arange(1, _STEPS + 1) / _STEPS
        lows = (minimum * fractions if minimum < 0 else np.zeros(1)).reshape(-1, 1)
        highs = (maximum * fractions if maximum > 0 else np.zeros(1)).reshape(1, -1)
        centers = self.centers
        moments = [np.concatenate(([0.0], np.cumsum(self.counts * centers**power))) for power in range(3)]
        below, above = self._bins_below(lows), self._bins_below(highs)
        inside = (moments[0][above] - moments[0][below]) * ((highs - lows) / levels) ** 2 / 12
        beyond = [moment[-1] - moment[above] for moment in moments]
        short = [moment[below] for moment in moments]
        cost = inside + _squared_distance(short, lows) + _squared_distance(beyond, highs)
        best = int(cost.argmin())
        return float(lows[best // highs.size, 0]), float(highs[0, best % highs.size])

    def narrowest_range(self, share: float) -> tuple[float, float]:
        """The narrowest range with 0 in it, by whole bins, that holds a ``share`` (0 to 1) of all values but zeros.

        (0, 0) where nothing but zeros was counted.
        """
        upto = np.cumsum(self.counts)
        if not upto[-1]:
            return 0.0, 0.0
        before = upto - self.counts
        needed = math.ceil(upto[-1] * share)
        firsts = np.flatnonzero(before + needed <= upto[-1])
        lasts = np.searchsorted(upto, before[firsts] + needed)
        lows = np.minimum((self.first + firsts) * self.width, 0.0)
        highs = np.maximum((self.first + lasts + 1) * self.width, 0.0)
        best = int((highs - lows).argmin())
        return float(lows[best]), float(highs[best])

    def _bins_below(self, values: np.ndarray) -> np.ndarray:
        """The number of bins below each value."""
        position = np.rint(values / self.width) - self.first
        below: np.ndarray = np.clip(position, 0, len(self.counts)).astype(np.int64)
        return below

    def _make_room(self, first: int, last: int, exponent: int) -> None:
        """Have bins for what lies in bins ``first`` to ``last`` of width 2 to the power of ``exponent``."""
        old_first, old_last = self.first, self.first + len(self.counts) - 1
        wider = max(self.exponent, exponent)
        while True:
            new_first = min(old_first >> (wider - self.exponent), first >> (wider - exponent))
            new_last = max(old_last >> (wider - self.exponent), last >> (wider - exponent))
            if new_last - new_first < _BINS:
                break
            wider += 1
        if (new_first, new_last, wider) != (old_first, old_last, self.exponent):
            counts = np.zeros(new_last - new_first + 1, dtype=np.int64)
            bins = np.arange(old_first, old_last + 1) >> (wider - self.exponent)
            np.add.at(counts, bins - new_first, self.counts)
            self.exponent, self.first, self.counts = wider, new_first, counts


def _squared_distance(moments: list[np.ndarray], point: np.ndarray) -> np.ndarray:
    """The summed squared distance to ``point`` of values with these sums of powers 0, 1 and 2."""
    count, total, squares = moments
    distance: np.ndarray = squares - 2 * point * total + point**2 * count
    return distance
