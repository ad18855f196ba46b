"""How long a slow device may take for the evaluation set, decided while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STRETCH = 3.0
"""A set that would be finished within so many budgets is run to its end."""

FEWEST = 10
"""So many samples are run however slow it is."""


class Budget:
    """Allows sample after sample until the time is over.

    What is on its way when it is over still arrives, so a device that
    buffers much overruns by what it buffers.
    """

    def __init__(self, seconds: float, available: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._available = available
        self._clock = clock
        self._began = clock()
        self._answers = 0
        self._to_the_end = False

    def answered(self) -> None:
        """One more answer has arrived."""
        self._answers += 1

    def allows(self, sent: int) -> bool:
        """Whether one more sample may follow the ``sent`` ones."""
        elapsed = self._clock() - self._began
        if self._to_the_end or sent < FEWEST or elapsed < self._seconds:
            return True
        # Decided once: a set that is nearly through is worth more than the minutes it takes.
        self._to_the_end = elapsed * self._available <= STRETCH * self._seconds * self._answers
        return self._to_the_end
