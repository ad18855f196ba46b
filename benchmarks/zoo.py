"""Networks at the size of their papers, for what depends on a network's shape alone: speed, coverage.

Weights are random, batch norms hold the statistics that such weights give:
how long an inference takes, and what of it a runtime fuses, is the same as
with trained ones. The models that accuracy is measured on are in
``accuracy/zoo``; blocks of the same make come from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from accuracy.zoo.mobile import convolution
from accuracy.zoo.others import Basic, Block, Fire
from torch import nn

PICTURE = (3, 224, 224)
CLASSES = 1000
WORDS = 12
"""The words of keyword spotting: ten, silence, and anything else (Warden 2018)."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network of the zoo: ``make`` gives it with the weights it starts from, ``shape`` is one sample's."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    source: str

    def network(self) -> nn.Module:
        """It in eval mode, the same at every call."""
        torch.manual_seed(0)
        network = self.make()
        with torch.no_grad():
            _start(network)
            _settle(network, torch.from_numpy(samples(self.shape, 4, seed=1)))
        return network.eval()


def samples(shape: tuple[int, ...], count: int, *, seed: int) -> np.ndarray:
    """Noise with the statistics of normalised pictures: mean 0, deviation 1, and neighbours alike."""
    dice = np.random.default_rng(seed)
    rough = dice.normal(size=(count, *shape))
    for axis in (-2, -1):
        rough = (rough + np.roll(rough, 1, axis)) / np.sqrt(2)
    return rough.astype(np.float32)


def _start(network: nn.Module) -> None:
    """Weights that keep the deviation of what goes through them (He et al. 2015); batch norms of unlike channels."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0.0, 0.5)


def _settle(network: nn.Module, batch: torch.Tensor) -> None:
    """Give the batch norms the mean and variance that they see."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    network.train()
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    network(batch)


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of 8 that MobileNets take for a number of channels: the nearest, not below 90 % of it."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def _pooled(channels: int, classes: int = CLASSES) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def mobilenet_v1() -> nn.Module:
    """Thirteen depthwise separable convolutions."""
    act = partial(nn.ReLU, inplace=False)
    layers: list[nn.Module] = [convolution(3, 32, 3, 2, act)]
    channels = 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for outputs, stride in plan:
        layers += [
            convolution(channels, channels, 3, stride, act, groups=channels),
            convolution(channels, outputs, 1, 1, act),
        ]
        channels = outputs
    return nn.Sequential(*layers, *_pooled(channels))


class Gate(nn.Module):
    """Squeeze and excite as MobileNetV3 has it: a quarter of the channels, ReLU, hard-sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = divisible(channels / 4)
        self.network = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, narrow, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in and out."""
        return x * self.network(x)


class Inverted(nn.Module):
    """Expand (where it widens), filter each channel, gate, project; a shortcut where shapes agree."""

    def __init__(  # noqa: PLR0913  # what a block is
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        activation: Callable[[], nn.Module],
        gated: bool = False,
    ) -> None:
        super().__init__()
        expand = [convolution(inputs, hidden, 1, 1, activation)] if hidden != inputs else []
        self.layers = nn.Sequential(
            *expand,
            convolution(hidden, hidden, kernel, stride, activation, groups=hidden),
            *([Gate(hidden)] if gated else []),
            convolution(hidden, outputs, 1, 1, nn.Identity),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in and out."""
        return x + self.layers(x) if self.residual else self.layers(x)


def _inverted_stages(
    plan: list[tuple[int, int, int, int, int]], channels: int, activation: Callable[[], nn.Module]
) -> list[nn.Module]:
    """Stages of (kernel, factor of expansion, channels, blocks, stride of the first)."""
    blocks: list[nn.Module] = []
    for kernel, factor, outputs, count, first in plan:
        for index in range(count):
            stride = first if index == 0 else 1
            blocks.append(
                Inverted(channels, channels * factor, outputs, kernel=kernel, stride=stride, activation=activation)
            )
            channels = outputs
    return blocks


def mobilenet_v2() -> nn.Module:
    """Inverted residuals with ReLU6."""
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    return nn.Sequential(
        convolution(3, 32, 3, 2, nn.ReLU6),
        *_inverted_stages([(3, *stage) for stage in plan], 32, nn.ReLU6),
        convolution(320, 1280, 1, 1, nn.ReLU6),
        *_pooled(1280),
    )


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-B0 without gates, with ReLU6."""
    plan = [
        (3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2), (5, 6, 112, 3, 1), (5, 6, 192, 4, 2),
        (3, 6, 320, 1, 1),
    ]  # fmt: skip
    return nn.Sequential(
        convolution(3, 32, 3, 2, nn.ReLU6),
        *_inverted_stages(plan, 32, nn.ReLU6),
        convolution(320, 1280, 1, 1, nn.ReLU6),
        *_pooled(1280),
    )


V3_SMALL = (
    (3, 16, 16, True, "relu", 2), (3, 72, 24, False, "relu", 2), (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "swish", 2), (5, 240, 40, True, "swish", 1), (5, 240, 40, True, "swish", 1),
    (5, 120, 48, True, "swish", 1), (5, 144, 48, True, "swish", 1), (5, 288, 96, True, "swish", 2),
    (5, 576, 96, True, "swish", 1), (5, 576, 96, True, "swish", 1),
)  # fmt: skip
V3_LARGE = (
    (3, 16, 16, False, "relu", 1), (3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2), (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "swish", 2), (3, 200, 80, False, "swish", 1), (3, 184, 80, False, "swish", 1),
    (3, 184, 80, False, "swish", 1), (3, 480, 112, True, "swish", 1), (3, 672, 112, True, "swish", 1),
    (5, 672, 160, True, "swish", 2), (5, 960, 160, True, "swish", 1), (5, 960, 160, True, "swish", 1),
)  # fmt: skip
"""Kernel, hidden channels, channels, gate, activation, stride: tables 1 and 2 of the paper."""


def mobilenet_v3(plan: tuple[tuple[int, int, int, bool, str, int], ...], last: int) -> nn.Module:
    """Hard-swish, gates with hard-sigmoid, a wide layer behind the pooling."""
    activations = {"relu": nn.ReLU, "swish": nn.Hardswish}
    blocks: list[nn.Module] = []
    channels = 16
    for kernel, hidden, outputs, gated, activation, stride in plan:
        act = activations[activation]
        blocks.append(Inverted(channels, hidden, outputs, kernel=kernel, stride=stride, activation=act, gated=gated))
        channels = outputs
    wide = 6 * channels
    return nn.Sequential(
        convolution(3, 16, 3, 2, nn.Hardswish),
        *blocks,
        convolution(channels, wide, 1, 1, nn.Hardswish),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, last),
        nn.Hardswish(),
        nn.Dropout(0.2),
        nn.Linear(last, CLASSES),
    )


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 to four times the width, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(inputs, width, 1, 1, nn.ReLU),
            convolution(width, width, 3, stride, nn.ReLU),
            convolution(width, 4 * width, 1, 1, nn.Identity),
        )
        same = stride == 1 and inputs == 4 * width
        self.shortcut = nn.Identity() if same else convolution(inputs, 4 * width, 1, stride, nn.Identity)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in and out."""
        return torch.relu(self.layers(x) + self.shortcut(x))


def resnet(block: Callable[[int, int, int], nn.Module], depths: tuple[int, ...], growth: int) -> nn.Module:
    """Four stages of residual blocks, which give ``growth`` times the width of their stage."""
    blocks: list[nn.Module] = []
    channels = 64
    for stage, depth in enumerate(depths):
        width = 64 << stage
        for index in range(depth):
            blocks.append(block(channels, width, 2 if stage and index == 0 else 1))
            channels = growth * width
    return nn.Sequential(convolution(3, 64, 7, 2, nn.ReLU), nn.MaxPool2d(3, 2, 1), *blocks, *_pooled(channels))


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1: eight fire modules, a convolution as classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
        nn.Dropout(0.5),
        nn.Conv2d(512, CLASSES, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class Shuffle(nn.Module):
    """Half of the channels go through three convolutions; both halves are shuffled (figure 3 c and d of the paper)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.branch = nn.Sequential(
            convolution(inputs if stride == 2 else half, half, 1, 1, nn.ReLU),  # noqa: PLR2004  # halves the plane
            convolution(half, half, 3, stride, nn.Identity, groups=half),
            convolution(half, half, 1, 1, nn.ReLU),
        )
        self.shortcut = nn.Sequential(
            convolution(inputs, inputs, 3, stride, nn.Identity, groups=inputs),
            convolution(inputs, half, 1, 1, nn.ReLU),
        )
        if stride == 1:
            self.shortcut = nn.Sequential()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in, ``outputs`` channels out."""
        left, right = x.chunk(2, 1) if self.stride == 1 else (x, x)
        joined = torch.cat([self.shortcut(left), self.branch(right)], 1)
        batch, channels, height, width = joined.shape
        return joined.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(joined.shape)


def shufflenet_v2() -> nn.Module:
    """ShuffleNetV2 1x."""
    layers: list[nn.Module] = [convolution(3, 24, 3, 2, nn.ReLU), nn.MaxPool2d(3, 2, 1)]
    channels = 24
    for outputs, count in ((116, 4), (232, 8), (464, 4)):
        for index in range(count):
            layers.append(Shuffle(channels, outputs, 2 if index == 0 else 1))
            channels = outputs
    return nn.Sequential(*layers, convolution(channels, 1024, 1, 1, nn.ReLU), *_pooled(1024))


class TinyViT(nn.Module):
    """DeiT-Ti: patches of 16x16 and a class token, twelve blocks of width 192 with three heads."""

    def __init__(self, width: int = 192, depth: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 197, width) * 0.02)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 3, 224, 224) in, logits (N, 1000) out."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def ds_cnn() -> nn.Module:
    """The keyword spotter of MLPerf Tiny: 49 frames of 10 coefficients, four depthwise separable convolutions of 64."""
    layers: list[nn.Module] = [nn.Conv2d(1, 64, (10, 4), 2, (5, 1)), nn.BatchNorm2d(64), nn.ReLU(), nn.Dropout(0.2)]
    for _ in range(4):
        layers += [nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.BatchNorm2d(64), nn.ReLU()]
        layers += [nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.4), *_pooled(64, WORDS))


class KeywordLstm(nn.Module):
    """Two LSTM layers of 128 over 49 frames of 10 coefficients; the last state names the word."""

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(10, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, WORDS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Frames (N, 49, 10) in, logits (N, 12) out."""
        states, _ = self.lstm(x)
        return self.head(states[:, -1])


ZOO: dict[str, Entry] = {
    "mobilenet-v1": Entry(make=mobilenet_v1, shape=PICTURE, source="Howard et al. 2017"),
    "mobilenet-v2": Entry(make=mobilenet_v2, shape=PICTURE, source="Sandler et al. 2018"),
    "mobilenet-v3-small": Entry(
        make=partial(mobilenet_v3, V3_SMALL, 1024), shape=PICTURE, source="Howard et al. 2019, table 2"
    ),
    "mobilenet-v3-large": Entry(
        make=partial(mobilenet_v3, V3_LARGE, 1280), shape=PICTURE, source="Howard et al. 2019, table 1"
    ),
    "resnet-18": Entry(make=partial(resnet, Basic, (2, 2, 2, 2), 1), shape=PICTURE, source="He et al. 2016, table 1"),
    "resnet-50": Entry(
        make=partial(resnet, Bottleneck, (3, 4, 6, 3), 4),
        shape=PICTURE,
        source="He et al. 2016, table 1, with the stride in the 3x3 convolution",
    ),
    "squeezenet": Entry(make=squeezenet, shape=PICTURE, source="Iandola et al. 2016, version 1.1 of its authors"),
    "shufflenet-v2": Entry(make=shufflenet_v2, shape=PICTURE, source="Ma et al. 2018, table 5, 1x"),
    "efficientnet-lite0": Entry(
        make=efficientnet_lite0, shape=PICTURE, source="Tan and Le 2019; tensorflow/tpu, models/.../efficientnet/lite"
    ),
    "vit-tiny": Entry(make=TinyViT, shape=PICTURE, source="Touvron et al. 2021, DeiT-Ti"),
    "ds-cnn": Entry(make=ds_cnn, shape=(1, 49, 10), source="Zhang et al. 2017; Banbury et al. 2021, MLPerf Tiny"),
    "lstm": Entry(make=KeywordLstm, shape=(49, 10), source="two layers of 128, as in Zhang et al. 2017's comparison"),
}
