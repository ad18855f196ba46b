"""The range of least squared error by a model of the rounding; the default."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.quantize.statistics import TensorStatistics


def histogram(statistics: TensorStatistics, levels: int) -> tuple[float, float]:
    """The range whose expected squared error is smallest, no wider than what is believable.

    Inside the range a value is off by a twelfth of the squared step, outside
    by its squared distance to the end: Sung et al., "Resiliency of Deep
    Neural Networks under Quantization" (2015), choose steps by the squared
    error; PyTorch's HistogramObserver does it by a histogram. A single
    odd sample of many widens the range at most to twice what the others show.
    """
    return statistics.histogram.range_of_least_error(
        statistics.believable_minimum, statistics.believable_maximum, levels=levels
    )
