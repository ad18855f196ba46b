"""A small depthwise-separable network for Fashion-MNIST, with the weights that ``train.py`` made.

0.98 million multiply-accumulates and 20,000 parameters an image: the
building blocks of a MobileNet (batch norm, ReLU6, residual additions), small
enough to run the whole test set on an emulated board in about a minute: 91.6 % of the 10,000 test images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

WEIGHTS = Path(__file__).parent / "weights.npz"


class Separable(nn.Module):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm; a residual block where the shapes allow it."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = stride == 1 and channels_in == channels_out
        self.layers = nn.Sequential(
            nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False),
            nn.BatchNorm2d(channels_in),
            nn.ReLU6(),
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU6(),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H / stride, W / stride)."""
        out = self.layers(image)
        return image + out if self.residual else out


class FashionNet(nn.Sequential):
    """(N, 1, 28, 28) normalised grey images to the logits of the 10 classes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU6(),
            Separable(16, 32, stride=2),
            Separable(32, 32),
            Separable(32, 64, stride=2),
            Separable(64, 64),
            Separable(64, 128, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 10),
        )


def load() -> nn.Module:
    """The trained network in eval mode."""
    network = FashionNet()
    with np.load(WEIGHTS) as arrays:
        network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    return network.eval()
