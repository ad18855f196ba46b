"""All but the rarest values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgeq.quantize.statistics import TensorStatistics

_PERCENT = 99.99


def percentile(statistics: TensorStatistics, levels: int, *, percent: float = _PERCENT) -> tuple[float, float]:  # noqa: ARG001  # as every rule takes it
    """The range that holds ``percent`` of all values, half of the others on each side of it.

    McKinstry et al., "Discovering Low-Precision Networks Close to
    Full-Precision Networks for Efficient Embedded Inference" (2018); 99.99 is
    what TensorRT's and ONNX Runtime's percentile calibrators start from.
    An end lies at the outer edge of its bin, within what was seen.
    """
    counts, width = statistics.histogram.counts, statistics.histogram.width
    edges = np.append(statistics.histogram.centers - width / 2, statistics.histogram.centers[-1:] + width / 2)
    whole = counts.copy()
    whole[int(np.searchsorted(edges, 0.0, side="right")) - 1] += statistics.histogram.zeros
    cut = (1.0 - percent / 100) / 2 * whole.sum()
    first = int(np.searchsorted(np.cumsum(whole), cut, side="right"))
    last = len(whole) - 1 - int(np.searchsorted(np.cumsum(whole[::-1]), cut, side="right"))
    low = max(float(edges[first]), statistics.minimum)
    high = min(float(edges[last + 1]), statistics.maximum)
    return min(low, 0.0), max(high, 0.0)
