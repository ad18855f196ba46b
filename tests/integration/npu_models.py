"""Small networks for the tests of microcontrollers, with random weights, and what their lowered graphs take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable


class Everything(nn.Module):
    """Each operator that edgeq makes int8 and an Ethos-U takes, in one small network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8))
        self.after = nn.Conv2d(8, 8, 3, stride=2)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.stem(image)
        second = nn.functional.hardswish(first + self.depth(first))
        third = self.after(nn.functional.pad(second, (0, 1, 0, 1)))
        pooled = nn.functional.max_pool2d(second, 2)
        joined = torch.cat((third, pooled * torch.sigmoid(pooled)), 1)
        return self.last(self.up(joined).mean((2, 3)))


class WithSoftmax(nn.Module):
    """A softmax between two convolutions, which stays float."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.second(torch.softmax(self.first(image), 1))


def arguments(program: Any, inputs: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """The values of a lowered program's placeholders, in their order: its weights, and these inputs."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    given = iter(inputs)
    return [
        program.state_dict[names[node.name]] if node.name in names else next(given)
        for node in program.graph.nodes
        if node.op == "placeholder"
    ]
