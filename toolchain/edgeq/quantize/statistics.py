"""What calibration saw of each tensor of the float graph: all that any rule for ranges asks for.

Everything is gathered in one pass and in memory that does not grow with
the number of samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgeq.quantize.histogram import Histogram
from edgeq.records import CalibrationData

if TYPE_CHECKING:
    from torch.fx import Node

_LATEST = 0.01
"""What the latest sample weighs at least in a moving average; the default of PyTorch's and ONNX Runtime's."""

_ODD = 2.0
_ODD_ONE_IN = 32


class TensorStatistics:
    """One tensor, over all samples.

    ``minimum`` and ``maximum`` include 0, as int8 holds it exactly.
    ``average_minimum`` and ``average_maximum`` are moving averages of each
    sample's own (plain averages of the first hundred). ``channel_axis`` is
    the axis along which ``channel_minimum`` and ``channel_maximum``
    (float32, one value a channel) are kept, None for none of them.
    """

    def __init__(self, *, channel_axis: int | None = None) -> None:
        self.samples = 0
        self.minimum = 0.0
        self.maximum = 0.0
        self.average_minimum = 0.0
        self.average_maximum = 0.0
        self.histogram = Histogram()
        self.channel_minimum: torch.Tensor | None = None
        self.channel_maximum: torch.Tensor | None = None
        self._channel_axis = channel_axis
        self._minima = _Magnitudes()
        self._maxima = _Magnitudes()

    @property
    def channel_axis(self) -> int | None:
        """The axis whose extremes are kept apart, None for none."""
        return self._channel_axis

    @property
    def believable_minimum(self) -> float:
        """``minimum``, but at most twice what all but one in 32 samples reach (of fewer, each is believed)."""
        return -self._minima.believable(-self.minimum)

    @property
    def believable_maximum(self) -> float:
        """``maximum``, but at most twice what all but one in 32 samples reach (of fewer, each is believed)."""
        return self._maxima.believable(self.maximum)

    def add(self, value: torch.Tensor) -> bool:
        """Take one sample's value into account; False, and nothing is taken, if it holds NaN or infinity."""
        value = value.detach()
        lows, highs = self._extremes(value)
        low, high = float(lows.min()), float(highs.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            return False
        self.samples += 1
        self.histogram.add(value, low, high)
        if self._channel_axis is not None:
            self.channel_minimum = lows if self.channel_minimum is None else torch.minimum(self.channel_minimum, lows)
            self.channel_maximum = highs if self.channel_maximum is None else torch.maximum(self.channel_maximum, highs)
        self._add_extremes(min(low, 0.0), max(high, 0.0))
        return True

    def merged(self, *others: TensorStatistics) -> TensorStatistics:
        """What is known of tensors that share a scale: histogram and extremes, no channels."""
        parts = (self, *others)
        result = TensorStatistics()
        result.samples = max(part.samples for part in parts)
        result.minimum = min(part.minimum for part in parts)
        result.maximum = max(part.maximum for part in parts)
        result.average_minimum = min(part.average_minimum for part in parts)
        result.average_maximum = max(part.average_maximum for part in parts)
        result.histogram = self.histogram.merged(*(part.histogram for part in others))
        for part in parts:
            result._minima.counts += part._minima.counts  # noqa: SLF001  # of its own class
            result._maxima.counts += part._maxima.counts  # noqa: SLF001  # of its own class
        return result

    def clamped(self, low: float, high: float) -> TensorStatistics:
        """What is known of the tensor with each value cut to ``low`` to ``high``, and 0; no channels."""
        low, high = min(low, 0.0), max(high, 0.0)
        result = self.merged()
        result.minimum, result.maximum = max(result.minimum, low), min(result.maximum, high)
        result.average_minimum = max(result.average_minimum, low)
        result.average_maximum = min(result.average_maximum, high)
        result.histogram = self.histogram.clamped(low, high)
        result._minima = self._minima.clamped(-low)  # noqa: SLF001  # of its own class
        result._maxima = self._maxima.clamped(high)  # noqa: SLF001  # of its own class
        return result

    def state(self) -> dict[str, np.ndarray]:
        """Everything there is to keep, as plain arrays; :meth:`restore` takes it back bit by bit."""
        extremes = [self.minimum, self.maximum, self.average_minimum, self.average_maximum]
        state = {
            "samples": np.array(self.samples),
            "extremes": np.array(extremes, dtype=np.float64),
            "minima": self._minima.state(),
            "maxima": self._maxima.state(),
            **{f"histogram.{name}": array for name, array in self.histogram.state().items()},
        }
        tensors = {"channel_minimum": self.channel_minimum, "channel_maximum": self.channel_maximum}
        return state | {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`state` of statistics of the same tensor gave; KeyError if a part is missing."""
        self.samples = int(state["samples"])
        self.minimum, self.maximum, self.average_minimum, self.average_maximum = map(float, state["extremes"])
        self._minima = _Magnitudes.from_state(state["minima"])
        self._maxima = _Magnitudes.from_state(state["maxima"])
        self.histogram = Histogram.from_state(
            {name.removeprefix("histogram."): state[name] for name in ("histogram.counts", "histogram.place")}
        )
        if self._channel_axis is not None:
            self.channel_minimum = torch.tensor(state["channel_minimum"])
            self.channel_maximum = torch.tensor(state["channel_maximum"])

    def _extremes(self, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Smallest and largest value of each channel, or of all."""
        if self._channel_axis is None:
            return torch.aminmax(value)
        rows = value.transpose(0, self._channel_axis).flatten(1) if value.dim() > 1 else value.reshape(-1, 1)
        return rows.amin(dim=1), rows.amax(dim=1)

    def _add_extremes(self, low: float, high: float) -> None:
        weight = max(1.0 / self.samples, _LATEST)
        self.average_minimum += weight * (low - self.average_minimum)
        self.average_maximum += weight * (high - self.average_maximum)
        self.minimum = min(self.minimum, low)
        self.maximum = max(self.maximum, high)
        self._minima.counts[_Magnitudes.place(-low)] += 1
        self._maxima.counts[_Magnitudes.place(high)] += 1


class _Magnitudes:
    """How often each size of a number >= 0 was seen, sizes a thirty-second of an octave apart.

    The idea of Masson et al., "DDSketch: A Fast and Fully-Mergeable Quantile
    Sketch with Relative-Error Guarantees" (VLDB 2019): quantiles within
    1.1 % from a few dozen counts.
    """

    _IN_AN_OCTAVE = 32
    _ZERO = -(2**31)

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    @classmethod
    def place(cls, size: float) -> int:
        """The number of the interval that holds ``size``."""
        return math.ceil(cls._IN_AN_OCTAVE * math.log2(size)) if size > 0 else cls._ZERO

    def clamped(self, largest: float) -> _Magnitudes:
        """The same sizes, none above ``largest``."""
        highest = self.place(largest) if math.isfinite(largest) else max(self.counts, default=self._ZERO)
        result = _Magnitudes()
        for place, count in self.counts.items():
            result.counts[min(place, highest)] += count
        return result

    def believable(self, largest: float) -> float:
        """``largest``, but at most twice what all but one in 32 reach."""
        odd = self.counts.total() // _ODD_ONE_IN
        if not odd:
            return largest
        for place in sorted(self.counts, reverse=True):
            odd -= self.counts[place]
            if odd < 0:
                usual = 0.0 if place == self._ZERO else 2.0 ** ((place - 0.5) / self._IN_AN_OCTAVE)
                return min(largest, _ODD * usual) if usual else largest
        return largest

    def state(self) -> np.ndarray:
        """Places and counts, int64, shape (places, 2)."""
        return np.array(sorted(self.counts.items()), dtype=np.int64).reshape(-1, 2)

    @classmethod
    def from_state(cls, state: np.ndarray) -> _Magnitudes:
        """The counts that gave ``state``."""
        result = cls()
        result.counts.update({int(place): int(count) for place, count in state})
        return result


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What one pass over the calibration samples saw: ``tensors`` by the name of their node, ``data`` which samples."""

    tensors: Mapping[str, TensorStatistics]
    data: CalibrationData

    def of(self, node: Node) -> TensorStatistics:
        """The statistics of what ``node`` gives; KeyError if calibration was not asked for it."""
        return self.tensors[node.name]
