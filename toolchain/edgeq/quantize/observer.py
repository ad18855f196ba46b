"""From observed values to a scale and a zero point."""

from __future__ import annotations

import math

import torch

from edgeq.errors import NonFiniteActivationError
from edgeq.quantize.histogram import Histogram
from edgeq.quantize.pt2e import ObserverBase

_SMALLEST_SCALE = 2.0**-100
"""Far from float32's subnormal numbers, which XNNPACK refuses, and small enough for any real tensor."""

_ODD = 2.0
_ODD_ONE_IN = 32


class ActivationObserver(ObserverBase):  # type: ignore[misc]  # torchao is not typed
    """Keeps a histogram of one int8 tensor, or of several that share a scale, in bounded memory.

    The range is the one of least squared error, within twice what all but
    the oddest samples span, so that one of them cannot widen it. ``extremes``
    asks for everything that was seen instead: an output's largest values
    are what its reader looks for. ``bounds`` is what a clamp lets through;
    it stands in where calibration saw nothing but zeros.
    """

    def __init__(  # noqa: PLR0913  # torchao passes every field of its spec
        self,
        *,
        dtype: torch.dtype,
        quant_min: int,
        quant_max: int,
        qscheme: torch.qscheme,
        bounds: tuple[float, float] | None = None,
        extremes: bool = False,
        is_dynamic: bool = False,
    ) -> None:
        super().__init__(dtype=dtype, is_dynamic=is_dynamic)
        self.quant_min = quant_min
        self.quant_max = quant_max
        self.qscheme = qscheme
        self.where = ""
        self._bounds = bounds
        self._extremes = extremes
        self._minima: list[float] = []
        self._maxima: list[float] = []
        self._smallest_scale = _SMALLEST_SCALE
        self._histogram = Histogram()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the values of ``x`` into account and return it; NonFiniteActivationError if one is not finite."""
        low, high = (float(bound) for bound in torch.aminmax(x.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NonFiniteActivationError(self.where)
        self._minima.append(min(low, 0.0))
        self._maxima.append(max(high, 0.0))
        if not self._extremes:
            self._histogram.add(x.detach(), low, high)
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
        minimum, maximum = min(self._minima, default=0.0), max(self._maxima, default=0.0)
        if minimum == maximum:
            low, high = self._bounds or (0.0, math.inf)
            return (min(low, 0.0), max(high, 0.0)) if math.isfinite(low) and math.isfinite(high) else (0.0, 1.0)
        if self._extremes:
            return minimum, maximum
        return self._histogram.range_of_least_error(
            -_believable([-low for low in self._minima]),
            _believable(self._maxima),
            levels=self.quant_max - self.quant_min,
        )


def _believable(extremes: list[float]) -> float:
    """The largest of ``extremes``, but at most twice what all but one in 32 samples reach.

    Of fewer than 32 samples each is believed.
    """
    ordered = sorted(extremes)
    usual = ordered[-1 - len(ordered) // _ODD_ONE_IN]
    return min(ordered[-1], _ODD * usual) if usual else ordered[-1]


class WeightObserver(ObserverBase):  # type: ignore[misc]  # torchao is not typed
    """The largest magnitude of a weight tensor, for each channel along ``channel_axis`` or over all."""

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

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """``weight`` as its integers will stand for it."""
        scale, _ = self.calculate_qparams()
        if self.ch_axis is not None:
            shape = [1] * weight.dim()
            shape[self.ch_axis] = -1
            scale = scale.reshape(shape)
        integers = torch.clamp(torch.round(weight * (1.0 / scale)), self.quant_min, self.quant_max)
        return integers * scale
