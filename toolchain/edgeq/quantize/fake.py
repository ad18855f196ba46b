"""Rounding that training can go through: what a graph holds in the place of int8 while it learns.

Rounding passes gradients straight through, and none where it saturates
(Bengio et al., "Estimating or Propagating Gradients Through Stochastic
Neurons for Conditional Computation", 2013; Jacob et al., "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from edgeq.quantize.scheme import HIGHEST, LOWEST, SMALLEST_SCALE, WEIGHT_LIMIT, Affine

_NEWEST = 0.01
"""How much of a range the newest batch makes: a hundred batches are remembered."""

_USUAL_MOMENTUM = 0.1


@dataclass
class Phase:
    """What a forward pass may change: ``observing`` moves ranges, ``norming`` uses and moves batch statistics."""

    observing: bool = False
    norming: bool = False


class FakeActivation(torch.nn.Module):
    """Rounds the tensors of one scale as int8 will, within a range that follows the training batches.

    The range is an exponential moving average of the extremes of a batch
    (Jacob et al. 2018, section 3.1), which begins at what calibration chose.
    """

    def __init__(self, phase: Phase, begin: Affine, *, symmetric: bool) -> None:
        super().__init__()
        bounds = (-HIGHEST if symmetric else LOWEST, HIGHEST)
        self.ends: torch.Tensor
        self.register_buffer("ends", torch.tensor([(bound - begin.zero_point) * begin.scale for bound in bounds]))
        self._phase = phase
        self._symmetric = symmetric
        self._seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` as its integers will stand for it."""
        if self._phase.observing:
            self._observe(x.detach())
        scale, zero_point = self._affine()
        rounded: torch.Tensor = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, LOWEST, HIGHEST)
        return rounded

    def follow(self) -> None:
        """Move the range towards what the last forward pass has seen of all tensors of this scale."""
        if self._seen is not None:
            self.ends.lerp_(self._seen, _NEWEST)
            self._seen = None

    def _observe(self, x: torch.Tensor) -> None:
        low, high = torch.aminmax(x)
        before = torch.zeros(2) if self._seen is None else self._seen
        self._seen = torch.stack([torch.minimum(low, before[0]), torch.maximum(high, before[1])])

    def _affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The rule of :func:`edgeq.quantize.scheme.settle`, in tensors."""
        low, high = self.ends
        if self._symmetric:
            scale = torch.maximum(-low, high) / HIGHEST
            return scale.clamp(min=SMALLEST_SCALE), torch.zeros((), dtype=torch.int32)
        scale = ((high - low) / (HIGHEST - LOWEST)).clamp(min=SMALLEST_SCALE)
        return scale, (LOWEST - torch.round(low / scale)).clamp(LOWEST, HIGHEST).to(torch.int32)


class FakeWeight(torch.nn.Module):
    """Rounds the weight of a layer as it will be rounded once its batch norm is folded into it.

    The batch norm multiplies channel c by f(c). A symmetric scale for each
    channel is multiplied alike, so that rounding before and after the
    folding are the same and nothing has to be folded. With one scale s for
    all channels (``whole``), the step of channel c before folding is
    s / abs(f(c)).
    """

    def __init__(self, axis: int, *, whole: bool, eps: float = 0.0) -> None:
        super().__init__()
        self._axis = axis
        self._whole = whole
        self._eps = eps

    def forward(
        self, weight: torch.Tensor, gamma: torch.Tensor | None = None, variance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``weight`` as its integers will stand for it; ``gamma`` and the running ``variance`` are the batch norm's."""
        with torch.no_grad():
            step = weight.abs().transpose(0, self._axis).flatten(1).amax(dim=1) / WEIGHT_LIMIT
            if self._whole:
                factor = torch.ones_like(step)
                if variance is not None:
                    factor = torch.rsqrt(variance + self._eps) * (1.0 if gamma is None else gamma.abs())
                step = (step * factor).amax() / factor.clamp(min=SMALLEST_SCALE)
            step = step.clamp(min=SMALLEST_SCALE, max=1.0 / SMALLEST_SCALE)
            zeros = torch.zeros_like(step, dtype=torch.int32)
        rounded: torch.Tensor = torch.fake_quantize_per_channel_affine(
            weight, step, zeros, self._axis, -WEIGHT_LIMIT, WEIGHT_LIMIT
        )
        return rounded


class BatchNorm(torch.nn.Module):
    """A batch norm that uses the statistics of the batch for as long as the phase lets it."""

    def __init__(self, phase: Phase, *, momentum: float, eps: float) -> None:
        super().__init__()
        self._phase = phase
        self._momentum = momentum or _USUAL_MOMENTUM  # 0 stands for an average over all batches ever seen
        self._eps = eps

    def forward(
        self,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        mean: torch.Tensor,
        variance: torch.Tensor,
    ) -> torch.Tensor:
        """Normalised ``x``; the running ``mean`` and ``variance`` are moved in place."""
        return torch.nn.functional.batch_norm(
            x, mean, variance, gamma, beta, self._phase.norming, self._momentum, self._eps
        )
