"""Trains the small networks of the benchmark, once: the weights are kept in edgeq's cache."""

from __future__ import annotations

import hashlib
import io
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgeq.files import cache_dir, write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 64
WEIGHT_DECAY = 0.01

HEAD_STEPS = 3000
HEAD_RATE = 0.003

Labelled = tuple[np.ndarray, np.ndarray]


def trained(
    name: str, factory: Callable[[], nn.Module], data: Callable[[], Labelled], *, steps: int, rate: float = 0.004
) -> nn.Module:
    """The network of ``factory`` fitted to ``data`` (inputs and classes), in eval mode; from the cache if it is there.

    One thread and a fixed seed: the same machine makes the same weights.
    """
    torch.manual_seed(0)
    network = factory()

    def train() -> None:
        fit(network, *data(), steps=steps, rate=rate)

    return kept(network, name, f"{network}{steps}{BATCH}{rate}{WEIGHT_DECAY}", train)


def headed(name: str, body: nn.Module, data: Callable[[], Labelled], *, classes: int) -> nn.Module:
    """A pretrained ``body`` with a linear layer on its features, fitted to ``data``; the layer is kept in the cache."""
    inputs, labels = data()
    features = body(torch.from_numpy(inputs[:1])).shape[1]
    torch.manual_seed(0)
    head = nn.Linear(features, classes)

    def train() -> None:
        with torch.no_grad():
            seen = torch.cat([body(rows) for rows in torch.from_numpy(inputs).split(BATCH)])
        fit(head, seen.numpy(), labels, steps=HEAD_STEPS, rate=HEAD_RATE)

    digest = hashlib.sha256(inputs.tobytes()).hexdigest()
    kept(head, name, f"{body}{head}{digest}{HEAD_STEPS}{BATCH}{HEAD_RATE}{WEIGHT_DECAY}", train)
    return nn.Sequential(body, head).eval()


def kept(network: nn.Module, name: str, settings: str, train: Callable[[], None]) -> nn.Module:
    """The ``network`` with the weights that ``train`` makes, in eval mode; from the cache if they are there."""
    key = hashlib.sha256(settings.encode()).hexdigest()[:12]
    path = cache_dir() / "benchmarks" / f"{name}-{key}.npz"
    if not path.is_file():
        started = time.monotonic()
        train()
        buffer = io.BytesIO()
        np.savez(buffer, **{name: tensor.numpy() for name, tensor in network.state_dict().items()})
        write_bytes(path, buffer.getvalue())
        print(f"trained {name} in {time.monotonic() - started:.0f} s", flush=True)
    with np.load(path) as weights:
        network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return network.eval()


def fit(network: nn.Module, inputs: np.ndarray, labels: np.ndarray, *, steps: int, rate: float) -> None:
    """AdamW and one cycle of the learning rate, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    samples, classes = torch.from_numpy(inputs), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    network.train()
    order = torch.cat([torch.randperm(len(samples)) for _ in range(1 + steps * BATCH // len(samples))])
    for batch in order[: steps * BATCH].split(BATCH):
        loss = functional.cross_entropy(network(samples[batch]), classes[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    torch.set_num_threads(threads)
