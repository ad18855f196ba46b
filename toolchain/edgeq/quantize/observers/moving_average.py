"""The extremes of a usual, recent sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.quantize.statistics import TensorStatistics


def moving_average(
    statistics: TensorStatistics,
    levels: int,  # noqa: ARG001  # as every rule takes it
) -> tuple[float, float]:
    """Moving averages of each sample's smallest and largest value.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference" (CVPR 2018), section 3.1: for tensors
    that drift while they are observed. The first samples are averaged
    evenly, or the very first would outweigh them all.
    """
    return statistics.average_minimum, statistics.average_maximum
