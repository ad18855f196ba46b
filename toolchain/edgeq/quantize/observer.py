"""From observed values to a scale and a zero point."""

from __future__ import annotations

import math
from typing import Any

import torch
from torchao.quantization.pt2e.observer import ObserverBase

from edgeq.errors import NonFiniteActivationError

_BINS = 2048
_STEPS = 64
_SMALLEST_SCALE = 2.0**-100
"""Far from float32's subnormal numbers, which XNNPACK refuses, and small enough for any real tensor."""


class Histogram:
    """Counts of values in equal bins over a range that doubles when a value falls outside it.

    Memory is fixed, and no value moves by more than one bin when the range
    grows, as two neighbours become one. Exact zeros are counted apart: they
    are exact in int8 at any scale.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(_BINS, dtype=torch.float64)
        self.low = 0.0
        self.width = 0.0

    def add(self, values: torch.Tensor, low: float, high: float) -> None:
        """Count ``values``, all of which lie within ``low`` and ``high``."""
        if self.width == 0.0:
            self.low = low
            self.width = max(high - low, abs(low) * 2.0**-20, abs(high) * 2.0**-20)
        while low < self.low:
            self._grow(downwards=True)
        while high > self.low + self.width:
            self._grow(downwards=False)
        counted = torch.histc(values.float(), _BINS, min=self.low, max=self.low + self.width).double()
        zero = int(-self.low / self.width * _BINS)
        if 0 <= zero < _BINS:
            counted[zero] -= min(float(values.numel() - torch.count_nonzero(values)), float(counted[zero]))
        self.counts += counted

    def centers(self) -> torch.Tensor:
        """The middle of each bin."""
        return self.low + (torch.arange(_BINS, dtype=torch.float64) + 0.5) * (self.width / _BINS)

    def _grow(self, *, downwards: bool) -> None:
        merged = self.counts.reshape(-1, 2).sum(dim=1)
        empty = torch.zeros_like(merged)
        self.counts = torch.cat((empty, merged) if downwards else (merged, empty))
        self.low -= self.width if downwards else 0.0
        self.width *= 2.0


class ActivationObserver(ObserverBase):  # type: ignore[misc]  # torchao is not typed
    """Keeps a histogram of one int8 tensor, or of several that share a scale, in bounded memory.

    ``bounds`` is what a clamp lets through; it stands in where calibration
    saw nothing but zeros.
    """

    def __init__(  # noqa: PLR0913  # torchao passes every field of its spec
        self,
        *,
        dtype: torch.dtype,
        quant_min: int,
        quant_max: int,
        qscheme: torch.qscheme,
        bounds: tuple[float, float] | None = None,
        is_dynamic: bool = False,
    ) -> None:
        super().__init__(dtype=dtype, is_dynamic=is_dynamic)
        self.quant_min = quant_min
        self.quant_max = quant_max
        self.qscheme = qscheme
        self.where = ""
        self._bounds = bounds
        self._minimum = 0.0
        self._maximum = 0.0
        self._smallest_scale = _SMALLEST_SCALE
        self.histogram: Histogram | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the values of ``x`` into account and return it; NonFiniteActivationError if one is not finite."""
        low, high = (float(bound) for bound in torch.aminmax(x.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NonFiniteActivationError(self.where)
        self._minimum = min(self._minimum, low)
        self._maximum = max(self._maximum, high)
        if low != high or low != 0:
            if self.histogram is None:
                self.histogram = Histogram()
            self.histogram.add(x.detach(), low, high)
        return x

    def need_scale(self, smallest: float) -> None:
        """Let the scale not be below ``smallest``."""
        self._smallest_scale = max(self._smallest_scale, smallest)

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale (float32) and zero point (int64) of the range; zero itself is always exact."""
        low, high = self._range()
        levels = self.quant_max - self.quant_min
        scale = torch.tensor(max((high - low) / levels, self._smallest_scale), dtype=torch.float32)
        zero_point = self.quant_min - round(low / float(scale))
        zero_point = min(max(zero_point, self.quant_min), self.quant_max)
        return scale.reshape(1), torch.tensor([zero_point])

    def _range(self) -> tuple[float, float]:
        if self._minimum == self._maximum:
            low, high = self._bounds or (0.0, math.inf)
            return (min(low, 0.0), max(high, 0.0)) if math.isfinite(low) and math.isfinite(high) else (0.0, 1.0)
        return self._minimum, self._maximum


class WeightObserver(ObserverBase):  # type: ignore[misc]  # torchao is not typed
    """The largest magnitude of a weight tensor, for each channel along ``channel_axis`` or over all.    """

    def __init__(  # noqa: PLR0913  # torchao passes every field of its spec
        self,
        *,
        dtype: torch.dtype,
        quant_min: int,
        quant_max: int,
        qscheme: torch.qscheme,
        channel_axis: int | None,
        is_dynamic: bool = False,
    ) -> None:
        super().__init__(dtype=dtype, is_dynamic=is_dynamic)
        self.quant_min = quant_min
        self.quant_max = quant_max
        self.qscheme = qscheme
        self.ch_axis = channel_axis
        self._smallest_scale = torch.tensor([_SMALLEST_SCALE])
        self._magnitude: torch.Tensor | None = None

    def need_scale(self, smallest: torch.Tensor) -> None:
        """Let no scale be below ``smallest``, one value for each output channel."""
        if self.ch_axis is None:
            smallest = smallest.max().reshape(1)
        self._smallest_scale = torch.maximum(self._smallest_scale, smallest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Measure ``x`` once: weights do not change."""
        if self._magnitude is None:
            weight = x.detach().abs()
            self._magnitude = (
                weight.amax().reshape(1)
                if self.ch_axis is None
                else weight.transpose(0, self.ch_axis).flatten(1).amax(dim=1)
            )
        return x

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scales (float32) and zero points (all 0), one for each channel or a single one."""
        assert self._magnitude is not None  # noqa: S101  # forward has run: torchao converts after calibration
        scale = torch.maximum(self._magnitude / self.quant_max, self._smallest_scale)
        return scale, torch.zeros_like(scale, dtype=torch.int64)
