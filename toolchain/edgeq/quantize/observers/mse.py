"""The range of least squared error, every value rounded for real."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgeq.quantize.statistics import TensorStatistics

_COARSE = np.arange(1, 25) / 24
_FINER = (1 / 72, 1 / 216)


def mse(statistics: TensorStatistics, levels: int) -> tuple[float, float]:
    """The range whose squared error is smallest with scale and zero point as the kernels use them.

    Nagel et al., "A White Paper on Neural Network Quantization" (2021),
    section 3.1 (MSE). Each end is searched over 24 parts of what is believable (one
    value of many far from all others would weigh more than they), then twice
    more finely around the best pair. The values are the middles of the
    bins of the histogram; what they differ by inside a bin adds the same to
    every candidate.
    """
    used = np.flatnonzero(statistics.histogram.counts)
    values, counts = statistics.histogram.centers[used], statistics.histogram.counts[used].astype(np.float64)
    ends = (statistics.believable_minimum, statistics.believable_maximum)
    candidates = [(low, high) for low in (_COARSE if ends[0] else (1.0,)) for high in (_COARSE if ends[1] else (1.0,))]
    best, least = (1.0, 1.0), np.inf
    for step in (*_FINER, None):
        for low, high in candidates:
            error = _error(values, counts, low * ends[0], high * ends[1], levels)
            if error < least:
                best, least = (low, high), error
        if step is not None:
            around = [index * step for index in (-2, -1, 0, 1, 2)]
            candidates = [
                (low, high)
                for low in sorted({min(best[0] + shift, 1.0) for shift in around if ends[0]} or {1.0})
                for high in sorted({min(best[1] + shift, 1.0) for shift in around if ends[1]} or {1.0})
                if low > 0 and high > 0
            ]
    return float(best[0] * ends[0]), float(best[1] * ends[1])


def _error(values: np.ndarray, counts: np.ndarray, low: float, high: float, levels: int) -> float:
    """The summed squared error of ``counts`` of ``values`` on the grid of 0 ... ``levels`` from ``low`` to ``high``."""
    scale = (high - low) / levels
    if not scale:
        return np.inf
    zero_point = round(-low / scale)
    rounded = np.clip(np.rint(values / scale), -zero_point, levels - zero_point) * scale
    return float(counts @ (rounded - values) ** 2)
