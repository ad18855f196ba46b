"""Pure numbers: what is derived from raw samples and counts.

Nothing here reads or writes anything. Every function takes arrays or counts
and returns a number, an interval or a verdict; its docstring gives the
formula and where it comes from. Intervals are 95 % unless ``confidence``
says otherwise, and every random draw is seeded, so the same rows always give
the same report.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sqnr_db(reference: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    """Signal-to-quantization-noise ratio of ``other`` against ``reference``, in decibels.

    ``10 log10(sum(reference^2) / sum((reference - other)^2))`` over all
    elements, in float64. Identical arrays have no noise and give
    ``math.inf``; a record stores that as None, since JSON has no infinity.
    NaN or infinite elements, and a silent reference that ``other`` does not
    match, give ``-math.inf``: no ratio can be claimed.

    Raises:
        ValueError: the shapes differ, or there are no elements.
    """
    if reference.shape != other.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {other.shape}")
    if reference.size == 0:
        raise ValueError("no elements to compare")
    signal = reference.astype(np.float64)
    noise = signal - other.astype(np.float64)
    if not (np.isfinite(signal).all() and np.isfinite(noise).all()):
        return -math.inf
    noise_power = float(np.square(noise).sum())
    signal_power = float(np.square(signal).sum())
    if noise_power == 0.0:
        return math.inf
    return 10 * math.log10(signal_power / noise_power) if signal_power else -math.inf
