"""The range that keeps most of what a distribution tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgeq.quantize.histogram import Histogram
    from edgeq.quantize.statistics import TensorStatistics

_CANDIDATES = 128


def entropy(statistics: TensorStatistics, levels: int) -> tuple[float, float]:
    """The threshold with the least Kullback-Leibler divergence between the values and their int8 stand-ins.

    Migacz, "8-bit Inference with TensorRT" (GTC 2017), for an affine grid:
    the threshold cuts both sides, or the only one there is, and the steps
    lie between the two ends. Exact zeros are left out: they are exact at any
    scale, and after a ReLU they would drown everything else.
    """
    minimum, maximum = statistics.believable_minimum, statistics.believable_maximum
    extreme = max(-minimum, maximum)
    best, least = extreme, np.inf
    for part in range(_CANDIDATES, 0, -1):
        threshold = extreme * part / _CANDIDATES
        divergence = _divergence(statistics.histogram, max(minimum, -threshold), min(maximum, threshold), levels)
        if divergence < least:
            best, least = threshold, divergence
    return max(minimum, -best), min(maximum, best)


def _divergence(histogram: Histogram, low: float, high: float, levels: int) -> float:
    """How much more the values, cut at ``low`` and ``high``, tell than ``levels`` steps; infinite if bins are few."""
    centers = histogram.centers
    inside = (centers > low) & (centers < high)
    kept = histogram.counts[inside].astype(np.float64)
    if len(kept) <= levels or not kept.any():
        return np.inf
    reference = kept.copy()
    reference[0] += histogram.counts[centers <= low].sum()
    reference[-1] += histogram.counts[centers >= high].sum()
    level = np.rint((centers[inside] - low) / (high - low) * levels).astype(np.int64)
    used = reference > 0
    filled = np.bincount(level, weights=kept, minlength=levels + 1)
    spread = np.bincount(level, weights=used, minlength=levels + 1)
    stand_in = filled[level[used]] / spread[level[used]]
    if not stand_in.all():
        return np.inf
    p, q = reference[used] / reference.sum(), stand_in / stand_in.sum()
    return float(np.sum(p * np.log(p / q)))
