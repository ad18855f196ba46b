"""How the Fashion-MNIST examples are trained: a loop and a command line that each ``train.py`` fills in.

The seed is fixed, so that the same machine and the same number of threads
make the same weights; another machine makes others that are about as good.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from data import normalised, read
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

BATCH = 128
WEIGHT_DECAY = 0.02


def mirrored(images: torch.Tensor) -> torch.Tensor:
    """Every image of a batch, mirrored half of the time."""
    chosen = torch.rand(len(images)) < 0.5  # noqa: PLR2004  # a coin
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def trained(make: Callable[[], nn.Module], epochs: int, peak_rate: float) -> nn.Module:
    """The network after ``epochs`` passes over the 60,000 training images (AdamW, one cycle of the learning rate)."""
    images, labels = read("train")
    inputs, classes = normalised(images), torch.from_numpy(labels.astype(np.int64))
    network = make()
    steps = len(inputs) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=epochs * steps)
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        order = torch.randperm(len(inputs))
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            loss = functional.cross_entropy(network(mirrored(inputs[batch])), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.3f}, {time.monotonic() - started:.0f} s", flush=True)
    return network.eval()


def correct(network: nn.Module) -> tuple[int, int]:
    """How many of the test images the network names rightly, and how many there are."""
    images, labels = read("t10k")
    with torch.inference_mode():
        classes = torch.cat([network(normalised(part)).argmax(1) for part in np.array_split(images, 20)])
    return int((classes.numpy() == labels).sum()), len(labels)


def command(make: Callable[[], nn.Module], weights: Path, *, epochs: int, peak_rate: float, threads: int) -> None:
    """Train, test, save: the whole of a ``train.py``, with its defaults."""
    options = argparse.ArgumentParser()
    options.add_argument("--epochs", type=int, default=epochs)
    options.add_argument("--threads", type=int, default=threads)
    options.add_argument("--out", type=Path, default=weights)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    network = trained(make, chosen.epochs, peak_rate)
    right, total = correct(network)
    np.savez(chosen.out, **{name: tensor.numpy() for name, tensor in network.state_dict().items()})
    print(f"{right:,} of {total:,} test images right; weights in {chosen.out}")
