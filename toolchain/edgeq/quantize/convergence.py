"""When calibration has seen enough: the ranges no longer move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeq.quantize.observers import RANGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgeq.quantize.statistics import TensorStatistics

_FIRST_LOOK = 64
"""Of fewer samples, convergence is chance."""
_GROWTH = 1.5
_CALM_LOOKS = 2
_MOVED = 0.05
_LEVELS = 255
_TINY = 2.0**-100


class Convergence:
    """Looks at the ranges after 64 samples, 96, 144 and so on: each time after half as many again.

    They stand when twice in a row no end of any tensor's range, by the
    default rule, has moved by more than a twentieth of that range since the
    look before: a step that is off by so much costs 0.4 dB.
    """

    def __init__(self) -> None:
        self.reached = False
        self._next_look = _FIRST_LOOK
        self._calm = 0
        self._ranges: np.ndarray = np.zeros((0, 2))

    def look(self, samples: int, tensors: Iterable[TensorStatistics]) -> None:
        """Take the state after ``samples`` samples into account, if it is time."""
        if samples < self._next_look:
            return
        self._next_look = int(samples * _GROWTH)
        rule = RANGES["histogram"]
        ranges = np.array([rule(statistics, _LEVELS) for statistics in tensors])
        if len(self._ranges):
            moved = np.abs(ranges - self._ranges).max(axis=1) / np.maximum(np.ptp(ranges, axis=1), _TINY)
            self._calm = self._calm + 1 if moved.max() <= _MOVED else 0
        self._ranges = ranges
        self.reached = self._calm >= _CALM_LOOKS

    def state(self) -> dict[str, np.ndarray]:
        """Everything there is to keep, as plain arrays."""
        return {"looks": np.array([self.reached, self._next_look, self._calm]), "ranges": self._ranges}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`state` gave."""
        reached, self._next_look, self._calm = (int(value) for value in state["looks"])
        self.reached, self._ranges = bool(reached), state["ranges"]
