"""Rules that turn what calibration saw of a tensor into the range that its int8 values span; one rule a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.quantize.observers.entropy import entropy
from edgeq.quantize.observers.histogram import histogram
from edgeq.quantize.observers.minmax import minmax
from edgeq.quantize.observers.moving_average import moving_average
from edgeq.quantize.observers.mse import mse
from edgeq.quantize.observers.percentile import percentile
from edgeq.quantize.statistics import TensorStatistics

__all__ = ["RANGES", "RangeRule"]

RangeRule = Callable[[TensorStatistics, int], tuple[float, float]]
"""(statistics, levels) -> (low, high), low <= 0 <= high; ``levels`` is the number of steps between the two, such
as 255."""

RANGES: Mapping[str, RangeRule] = {
    "minmax": minmax,
    "moving-average": moving_average,
    "histogram": histogram,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}
