"""Train the network of ``model.py`` and write ``weights.npz``; about a minute on two cores.

    python examples/fashion_mnist/train.py

The seed is fixed, so that the same machine and the same number of threads
make the same weights; another machine makes others that are about as good.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from data import normalised, read
from model import WEIGHTS, FashionNet
from torch import nn
from torch.nn import functional

EPOCHS = 7
BATCH = 128
PEAK_RATE = 0.02
WEIGHT_DECAY = 0.02


def mirrored(images: torch.Tensor) -> torch.Tensor:
    """Every image of a batch, mirrored half of the time."""
    chosen = torch.rand(len(images)) < 0.5  # noqa: PLR2004  # a coin
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def train(epochs: int) -> FashionNet:
    """The network after ``epochs`` passes over the 60,000 training images (AdamW, one cycle of the learning rate)."""
    images, labels = read("train")
    inputs, classes = normalised(images), torch.from_numpy(labels.astype(np.int64))
    network = FashionNet()
    steps = len(inputs) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=epochs * steps)
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


def main() -> None:
    """Train, test, save."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--epochs", type=int, default=EPOCHS)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--out", type=Path, default=WEIGHTS)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    network = train(chosen.epochs)
    right, total = correct(network)
    np.savez(chosen.out, **{name: tensor.numpy() for name, tensor in network.state_dict().items()})
    print(f"{right:,} of {total:,} test images right; weights in {chosen.out}")


if __name__ == "__main__":
    main()
