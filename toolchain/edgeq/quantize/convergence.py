"""When calibration has seen enough: the ranges no longer move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeq.quantize.observers import RANGES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from edgeq.quantize.statistics import TensorStatistics

_FIRST_LOOK = 64
"""Of fewer samples, convergence is chance."""
_GROWTH = 1.5
_CALM_LOOKS = 2
_MOVED = 0.05

_SKIMMED_ONE_IN = 8
_SKIMMED_LOOK = 8
_SKIMMED_AS_FAR = 16

_LEVELS = 255
_TINY = 2.0**-100


class Convergence:
    """Says which samples of a pass are run, and when it may end.

    It looks at the ranges after 64 samples, 96, 144 and so on: each time
    after half as many again. They stand when twice in a row no end of any
    tensor's range, by the default rule, has moved by more than a twentieth
    of that range since the look before: a step that is off by so much costs
    0.4 dB.

    Samples are often sorted, by class or by time, and the first of them then
    stand for themselves alone. So the pass goes on when the ranges stand,
    with one sample in 8, until 16 times as many more are read; and if a
    range moves after all, with every sample again.
    """

    def __init__(self) -> None:
        self.ran = 0
        """Samples that were run."""
        self.stood_after = 0
        """How many of them had been when the ranges stood; 0 while they do not."""
        self._ends_at = 0
        self._next_look = _FIRST_LOOK
        self._calm = 0
        self._ranges: np.ndarray = np.zeros((0, 2))

    def wants(self, sample: int) -> bool:
        """Whether the sample of this number, counted from 1, is to be run."""
        return not self.stood_after or sample % _SKIMMED_ONE_IN == 0

    def ended(self, read: int) -> bool:
        """Whether no sample is wanted after so many were read."""
        return bool(self.stood_after) and read >= self._ends_at

    def look(self, read: int, tensors: Collection[TensorStatistics]) -> None:
        """Take into account that the last of the ``read`` samples was run."""
        self.ran += 1
        if self.ran < self._next_look:
            return
        rule = RANGES["histogram"]
        ranges = np.array([rule(statistics, _LEVELS) for statistics in tensors]).reshape(-1, 2)
        calm = len(self._ranges) == len(ranges) and _largest_move(self._ranges, ranges) <= _MOVED
        self._calm = self._calm + 1 if calm else 0
        if self._calm < _CALM_LOOKS:
            self.stood_after = 0
        elif not self.stood_after:
            self.stood_after, self._ends_at = self.ran, read * (1 + _SKIMMED_AS_FAR)
        if self._calm <= _CALM_LOOKS:  # while skimming, ranges are held to those that stood: many small steps add up
            self._ranges = ranges
        self._next_look = self.ran + _SKIMMED_LOOK if self.stood_after else int(self.ran * _GROWTH)

    def state(self) -> dict[str, np.ndarray]:
        """Everything there is to keep, as plain arrays."""
        counts = [self.ran, self.stood_after, self._ends_at, self._next_look, self._calm]
        return {"counts": np.array(counts, dtype=np.int64), "ranges": self._ranges}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`state` gave."""
        self.ran, self.stood_after, self._ends_at, self._next_look, self._calm = map(int, state["counts"])
        self._ranges = state["ranges"]


def _largest_move(before: np.ndarray, now: np.ndarray) -> float:
    """By how much of its range an end has moved at most, of all tensors."""
    moved = np.abs(now - before).max(axis=1, initial=0.0) / np.maximum(np.ptp(now, axis=1), _TINY)
    return float(moved.max(initial=0.0))
