"""Both trainings: of the float network, by hand, and of what int8 leaves of it, by ``edgeq build``.

    python examples/qat_fashion_mnist/train.py

writes ``weights.npz``, in about a minute on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

sys.path.append(str(Path(__file__).parents[1] / "fashion_mnist"))

from data import normalised, read  # in the folder just named
from training import BATCH, command, mirrored  # the same

if TYPE_CHECKING:
    from torch import nn


def train(module: nn.Module, steps: int, learning_rate: float) -> None:
    """Train ``module`` in place; an ordinary loop, of which edgeq rounds the forward passes."""
    images, labels = read("train")
    inputs, classes = normalised(images), torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    module.train()
    for _ in range(steps):
        batch = torch.randint(len(inputs), (BATCH,))
        loss = functional.cross_entropy(module(mirrored(inputs[batch])), classes[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    from model import WEIGHTS, UnevenNet

    command(UnevenNet, WEIGHTS, epochs=3, peak_rate=0.02, threads=1)
