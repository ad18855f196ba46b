"""A small vision transformer for Fashion-MNIST, with the weights that ``train.py`` made.

An image is 16 patches of 7x7 pixels; two encoder blocks with layer norm, attention and GELU as in Dosovitskiy et al.,
"An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale" (ICLR 2021), with the mean of all patches
in place of a class token. 1.2 million multiply-accumulates and 72,000 parameters.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

WEIGHTS = Path(__file__).parent / "weights.npz"
PATCH, PATCHES = 7, 16
WIDTH, HEADS, BLOCKS = 64, 4, 2


class Attention(nn.Module):
    """Every patch looks at all of them: (N, patches, WIDTH) to the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(WIDTH, 3 * WIDTH)
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values come from one product."""
        query, key, value = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.inputs(patches).chunk(3, dim=-1)
        )
        seen = functional.scaled_dot_product_attention(query, key, value)
        return self.output(seen.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a perceptron, each behind a layer norm and beside a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.before_perceptron = nn.LayerNorm(WIDTH)
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, patches, WIDTH) to the same shape."""
        patches = patches + self.attention(self.before_attention(patches))
        return patches + self.perceptron(self.before_perceptron(patches))


class PatchReader(nn.Module):
    """(N, 1, 28, 28) normalised grey images to the logits of the 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.place = nn.Parameter(torch.zeros(1, PATCHES, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Patches become vectors, know their place, and look at each other."""
        patches = self.embed(image).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(patches)).mean(1))


def load() -> nn.Module:
    """The trained network in eval mode."""
    network = PatchReader()
    with np.load(WEIGHTS) as arrays:
        network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    return network.eval()
