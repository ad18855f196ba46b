"""A network for Fashion-MNIST that one scale for a whole tensor does not suit, with the weights ``train.py`` made.

The blocks are those of a MobileNetV3 (depthwise and pointwise convolutions,
batch norm, hard-swish), and the batch norms were started with factors from
1/16 to 16: after training, channels still differ as much. Scaling channels
against each other cannot even that out, as hard-swish does not let a factor
through; training can.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

WEIGHTS = Path(__file__).parent / "weights.npz"
LARGEST_EXPONENT = 4


class UnevenNet(nn.Sequential):
    """(N, 1, 28, 28) normalised grey images to the logits of the 10 classes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.Hardswish(),
            *separable(12, 24, stride=2),
            *separable(24, 48, stride=2),
            *separable(48, 96, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(96, 10),
        )
        generator = torch.Generator().manual_seed(0)
        for part in self:
            if isinstance(part, nn.BatchNorm2d):
                exponents = torch.randint(
                    -LARGEST_EXPONENT, LARGEST_EXPONENT + 1, (part.num_features,), generator=generator
                )
                part.weight.data *= torch.exp2(exponents.float())


def separable(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and hard-swish."""
    return [
        nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False),
        nn.BatchNorm2d(channels_in),
        nn.Hardswish(),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.Hardswish(),
    ]


def load() -> nn.Module:
    """The trained network in eval mode."""
    network = UnevenNet()
    with np.load(WEIGHTS) as arrays:
        network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    return network.eval()
