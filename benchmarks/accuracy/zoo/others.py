"""Classifiers for 28x28 grey pictures that are no mobile nets: residual, fire modules, dense, attention, recurrent."""

from __future__ import annotations

import torch
from torch import nn

CLASSES = 10


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in and out."""
        return torch.relu(self.layers(x) + self.shortcut(x))


def resnet() -> nn.Module:
    """Residual blocks with ReLU."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Basic(16, 16, 1),
        Basic(16, 32, 2),
        Basic(32, 32, 1),
        Basic(32, 64, 2),
        Basic(64, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


class Fire(nn.Module):
    """A narrow 1x1 convolution, then a 1x1 and a 3x3 side by side (Iandola et al. 2016)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in, twice ``expanded`` channels out."""
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1(x)), torch.relu(self.expand3(x))], 1)


def squeezenet() -> nn.Module:
    """Fire modules, max pooling, a convolution as classifier (without its ReLU: classes die in it); no batch norm."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(32, 12, 24),
        Fire(48, 12, 24),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(48, 16, 48),
        Fire(96, 16, 48),
        Fire(96, 24, 64),
        nn.Conv2d(128, CLASSES, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class Dense(nn.Module):
    """Batch norm, ReLU, convolution; its result joins its input (Huang et al. 2017)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, 2 * growth, 1, bias=False),
            nn.BatchNorm2d(2 * growth),
            nn.ReLU(),
            nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in, ``growth`` channels more out."""
        return torch.cat([x, self.layers(x)], 1)


def densenet() -> nn.Module:
    """Two dense blocks with a transition between them."""
    growth, channels = 12, 24
    layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, 2, 1, bias=False)]
    for block in range(2):
        for _ in range(4):
            layers.append(Dense(channels, growth))
            channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if block == 0:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


class Block(nn.Module):
    """Layer norm, attention, layer norm, a GELU network; both with shortcuts (Dosovitskiy et al. 2021)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (N, T, width) in and out."""
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.network(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches of 4x4 as tokens, three blocks, the mean of the tokens."""

    def __init__(self, width: int = 64, depth: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.positions = nn.Parameter(torch.randn(1, 49, width) * 0.02)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 1, 28, 28) in, logits (N, 10) out."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(tokens)).mean(1))


class RowReader(nn.Module):
    """An LSTM that reads a picture row by row."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, hidden, batch_first=True)
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 1, 28, 28) in, logits (N, 10) out."""
        states, _ = self.lstm(x.squeeze(1))
        return self.head(states[:, -1])


def sound_net() -> nn.Module:
    """1-D convolutions over a raw waveform of 2048 samples."""
    layers: list[nn.Module] = []
    channels = 1
    for outputs, kernel, stride in ((16, 32, 8), (32, 9, 4), (48, 5, 2), (64, 5, 2), (64, 3, 2)):
        layers += [
            nn.Conv1d(channels, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm1d(outputs),
            nn.ReLU(),
        ]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
