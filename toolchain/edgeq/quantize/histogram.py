"""Counts of values in bounded memory, and the int8 range that fits them best."""

from __future__ import annotations

import torch

_BINS = 2048
_STEPS = 64
"""Candidates for each end of a range."""


class Histogram:
    """Counts of values in equal bins over a range that doubles when a value falls outside it.

    Memory is fixed, and no value moves by more than one bin when the range
    grows, as two neighbours become one. Exact zeros are counted apart: they
    are exact in int8 at any scale.
    """

    def __init__(self) -> None:
        self._counts = torch.zeros(_BINS, dtype=torch.float64)
        self._low = 0.0
        self._width = 0.0

    def add(self, values: torch.Tensor, low: float, high: float) -> None:
        """Count ``values``, whose smallest is ``low`` and whose largest is ``high``."""
        if low == high == 0.0:
            return
        if self._width == 0.0:
            self._low = low
            self._width = max(high - low, abs(low) * 2.0**-20, abs(high) * 2.0**-20)
        while low < self._low:
            self._grow(downwards=True)
        while high > self._low + self._width:
            self._grow(downwards=False)
        counted = torch.histc(values.float(), _BINS, min=self._low, max=self._low + self._width).double()
        zero = min(int(-self._low / self._width * _BINS), _BINS - 1)
        if zero >= 0:
            counted[zero] -= min(float(values.numel() - torch.count_nonzero(values)), float(counted[zero]))
        self._counts += counted

    def range_of_least_error(self, minimum: float, maximum: float, *, levels: int) -> tuple[float, float]:
        """The range inside ``minimum`` (<= 0) to ``maximum`` (>= 0) that costs least when cut into ``levels`` steps.

        The cost is the squared error over all values counted: a twelfth of
        the squared step inside the range, the squared distance to its end
        outside.
        """
        fractions = torch.arange(1, _STEPS + 1, dtype=torch.float64) / _STEPS
        lows = (minimum * fractions if minimum < 0 else torch.zeros(1, dtype=torch.float64)).reshape(-1, 1)
        highs = (maximum * fractions if maximum > 0 else torch.zeros(1, dtype=torch.float64)).reshape(1, -1)
        centers = self._centers()
        moments = [_running_sum(self._counts * centers**power) for power in range(3)]
        below, above = self._bin(lows), self._bin(highs)
        inside = (moments[0][above] - moments[0][below]) * ((highs - lows) / levels) ** 2 / 12
        beyond = [moment[-1] - moment[above] for moment in moments]
        short = [moment[below] for moment in moments]
        cost = inside + _squared_distance(short, lows) + _squared_distance(beyond, highs)
        best = int(cost.argmin())
        return float(lows[best // highs.numel(), 0]), float(highs[0, best % highs.numel()])

    def _bin(self, values: torch.Tensor) -> torch.Tensor:
        """The number of bins below each value."""
        position = (values - self._low) / self._width * _BINS
        return position.round().clamp(0, _BINS).long()

    def _centers(self) -> torch.Tensor:
        """The middle of each bin."""
        return self._low + (torch.arange(_BINS, dtype=torch.float64) + 0.5) * (self._width / _BINS)

    def _grow(self, *, downwards: bool) -> None:
        merged = self._counts.reshape(-1, 2).sum(dim=1)
        empty = torch.zeros_like(merged)
        self._counts = torch.cat((empty, merged) if downwards else (merged, empty))
        self._low -= self._width if downwards else 0.0
        self._width *= 2.0


def _running_sum(values: torch.Tensor) -> torch.Tensor:
    """Sums of the first 0, 1, 2, ... values."""
    return torch.cat((torch.zeros(1, dtype=values.dtype), values.cumsum(0)))


def _squared_distance(moments: list[torch.Tensor], point: torch.Tensor) -> torch.Tensor:
    """The summed squared distance to ``point`` of values with these sums of powers 0, 1 and 2."""
    count, total, squares = moments
    return squares - 2 * point * total + point**2 * count
