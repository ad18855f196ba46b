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

_NEWEST_OF_NORM = 0.05
"""The same for the statistics of a batch norm, which move for a shorter part of the training."""


@dataclass
class Phase:
    """What a forward pass may change: ``observing`` moves ranges, ``norming`` moves running statistics."""

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

    def range(self) -> tuple[float, float]:
        """From the smallest to the largest value that the integers stand for; 0 lies between."""
        low, high = self.ends.tolist()
        return low, high

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
    """A batch norm as int8 will have it: by its running statistics, also while training.

    Rounded layers give other statistics than the float ones did. While the
    phase lets them, the running ones follow (they are what is folded in the
    end), but a batch is never normalised by its own: weights would fit
    themselves to a noise that the artifact does not have.
    """

    def __init__(self, phase: Phase, *, eps: float) -> None:
        super().__init__()
        self._phase = phase
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
        if self._phase.norming and x.numel() > x.shape[1]:
            found = torch.var_mean(x.detach(), [axis for axis in range(x.dim()) if axis != 1])
            variance.lerp_(found[0], _NEWEST_OF_NORM)
            mean.lerp_(found[1], _NEWEST_OF_NORM)
        # Copies, as the next forward pass of the same batch norm moves them before this one's gradients are computed.
        return torch.nn.functional.batch_norm(x, mean.clone(), variance.clone(), gamma, beta, eps=self._eps)
