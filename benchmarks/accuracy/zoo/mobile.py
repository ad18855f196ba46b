"""Mobile image classifiers for 28x28 grey pictures: depthwise convolutions with ReLU6, hard-swish or SiLU."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLASSES = 10


def convolution(  # noqa: PLR0913, PLR0917  # what a convolution is
    inputs: int, outputs: int, kernel: int, stride: int, activation: Callable[[], nn.Module], groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        activation(),
    )


class SqueezeExcite(nn.Module):
    """Scales each channel by what a small network makes of all channels' means (Hu et al. 2018)."""

    def __init__(self, channels: int, gate: Callable[[], nn.Module], activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, max(8, channels // 4), 1),
            activation(),
            nn.Conv2d(max(8, channels // 4), channels, 1),
            gate(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in and out."""
        return x * self.network(x)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project without activation (Sandler et al. 2018); squeeze-excite if ``gate``."""

    def __init__(  # noqa: PLR0913  # what a block is
        self,
        inputs: int,
        outputs: int,
        *,
        expand: int,
        kernel: int,
        stride: int,
        activation: Callable[[], nn.Module],
        gate: Callable[[], nn.Module] | None = None,
        squeeze: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        hidden = inputs * expand
        self.layers = nn.Sequential(
            convolution(inputs, hidden, 1, 1, activation),
            convolution(hidden, hidden, kernel, stride, activation, groups=hidden),
            nn.Identity() if gate is None else SqueezeExcite(hidden, gate, squeeze),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in and out."""
        return x + self.layers(x) if self.residual else self.layers(x)


def mobilenet_v1() -> nn.Module:
    """Depthwise separable convolutions with ReLU6 (Howard et al. 2017)."""
    return separable(nn.ReLU6)


def separable(activation: Callable[[], nn.Module]) -> nn.Module:
    """A MobileNetV1 of seven blocks with another activation."""
    layers = [convolution(1, 16, 3, 2, activation)]
    channels = 16
    for outputs, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (128, 1)):
        layers += [
            convolution(channels, channels, 3, stride, activation, groups=channels),
            convolution(channels, outputs, 1, 1, activation),
        ]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def inverted(blocks: Sequence[nn.Module], last: int, activation: Callable[[], nn.Module], head: nn.Module) -> nn.Module:
    """A stem of 16 channels, the blocks, a wide 1x1 convolution, a head behind the mean of each channel."""
    return nn.Sequential(
        convolution(1, 16, 3, 2, activation),
        *blocks,
        convolution(last, 4 * last, 1, 1, activation),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        head,
    )


def mobilenet_v2() -> nn.Module:
    """Inverted residuals with ReLU6 (Sandler et al. 2018)."""
    block = partial(InvertedResidual, kernel=3, activation=nn.ReLU6)
    blocks = [
        block(16, 16, expand=1, stride=1),
        block(16, 24, expand=4, stride=1),
        block(24, 24, expand=4, stride=1),
        block(24, 32, expand=4, stride=2),
        block(32, 32, expand=4, stride=1),
        block(32, 48, expand=4, stride=1),
        block(48, 48, expand=4, stride=1),
    ]
    return inverted(blocks, 48, nn.ReLU6, nn.Linear(192, CLASSES))


def mobilenet_v3() -> nn.Module:
    """Hard-swish, squeeze-excite with hard-sigmoid gates, 5x5 kernels (Howard et al. 2019)."""
    swish = partial(InvertedResidual, activation=nn.Hardswish, gate=nn.Hardsigmoid)
    relu = partial(InvertedResidual, activation=nn.ReLU)
    blocks = [
        relu(16, 16, expand=1, kernel=3, stride=1, gate=nn.Hardsigmoid),
        relu(16, 24, expand=4, kernel=3, stride=1),
        relu(24, 24, expand=3, kernel=3, stride=1),
        swish(24, 40, expand=4, kernel=5, stride=2),
        swish(40, 40, expand=4, kernel=5, stride=1),
        swish(40, 48, expand=3, kernel=5, stride=1),
        swish(48, 48, expand=3, kernel=5, stride=1),
    ]
    head = nn.Sequential(nn.Linear(192, 128), nn.Hardswish(), nn.Linear(128, CLASSES))
    return inverted(blocks, 48, nn.Hardswish, head)


def efficientnet() -> nn.Module:
    """SiLU and squeeze-excite with sigmoid gates, as in EfficientNet-B0 (Tan and Le 2019)."""
    block = partial(InvertedResidual, activation=nn.SiLU, gate=nn.Sigmoid, squeeze=nn.SiLU)
    blocks = [
        block(16, 16, expand=1, kernel=3, stride=1),
        block(16, 24, expand=4, kernel=3, stride=1),
        block(24, 24, expand=4, kernel=3, stride=1),
        block(24, 40, expand=4, kernel=5, stride=2),
        block(40, 40, expand=4, kernel=5, stride=1),
        block(40, 48, expand=4, kernel=3, stride=1),
        block(48, 48, expand=4, kernel=3, stride=1),
    ]
    return inverted(blocks, 48, nn.SiLU, nn.Linear(192, CLASSES))


def wild_ranges() -> nn.Module:
    """A MobileNetV1 with ReLU; :func:`stretch` gives its channels their wild ranges after training."""
    return separable(nn.ReLU)


def stretch(network: nn.Module, *, seed: int = 7, octaves: int = 5) -> nn.Module:
    """Scale each hidden channel by a random 2^-octaves to 2^octaves and the layer that reads it by the inverse.

    The network computes the same function (ReLU is positively
    homogeneous), with channels of one tensor a thousandfold apart, as
    training sometimes leaves them. Works on the network of
    :func:`wild_ranges`, batch norms being the producers.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    readers = [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Linear)][1:]
    with torch.no_grad():
        for norm, reader in zip(norms, readers, strict=True):
            exponents = (torch.rand(norm.num_features, generator=generator) * 2 - 1) * octaves
            scale = torch.exp2(exponents.round())
            norm.weight *= scale
            norm.bias *= scale
            depthwise = isinstance(reader, nn.Conv2d) and reader.groups > 1
            shape = (-1, *[1] * (reader.weight.dim() - 1)) if depthwise else (1, -1, *[1] * (reader.weight.dim() - 2))
            reader.weight /= scale.reshape(shape)
    return network
