"""Everything that was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.quantize.statistics import TensorStatistics


def minmax(statistics: TensorStatistics, levels: int) -> tuple[float, float]:  # noqa: ARG001  # as every rule takes it
    """The smallest and the largest value of all samples: nothing seen is cut off, and one outlier sets the step.

    Krishnamoorthi, "Quantizing deep convolutional networks for efficient
    inference: A whitepaper" (2018), section 2.1.
    """
    return statistics.minimum, statistics.maximum
