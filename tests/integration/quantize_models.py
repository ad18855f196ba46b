"""Small models and data for the tests of quantizing and lowering: random weights, fixed seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from edgeq.host import HostRuntime
from edgeq.lower import Coverage, lower
from edgeq.model import Dataset, Model
from edgeq.progress import Silent
from edgeq.project import InputSpec
from edgeq.quantize import FloatGraph, QuantizedProgram, quantize
from edgeq.recipe import named
from edgeq.stats import sqnr_db
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = (1, 3, 16, 16)


def settled(module: nn.Module) -> nn.Module:
    """The module in eval mode, its batch norms with statistics as training leaves them."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator) * 0.2)
            part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            part.weight.data.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            part.bias.data.copy_(torch.randn(part.num_features, generator=generator) * 0.2)
    return module.eval()


def samples(*shapes: tuple[int, ...], count: int = 8, seed: int = 1) -> list[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randn(shape, generator=generator) for shape in shapes) for _ in range(count)]


def dataset(given: list[tuple[torch.Tensor, ...]]) -> Dataset:
    specs = tuple(InputSpec(shape=tuple(t.shape), dtype=str(t.dtype).removeprefix("torch.")) for t in given[0])

    def calibration() -> Iterator[tuple[torch.Tensor, ...]]:
        yield from given

    return Dataset(calibration, specs, where="calibration", labelled=False)


def quantized(
    module: nn.Module, given: list[tuple[torch.Tensor, ...]], recipe: str = "int8-static"
) -> QuantizedProgram:
    model = Model(name="small", module=module, example_inputs=given[0])
    return quantize(FloatGraph(model, dataset(given), progress=Silent()), named(recipe), progress=Silent())


def lowered(program: QuantizedProgram, form: str, folder: Path, target: str = "rpi4") -> tuple[Coverage, HostRuntime]:
    path = folder / f"small.{form}"
    coverage = lower(program, form, load_target(target), path)
    return coverage, HostRuntime(path, form)


def outputs(runtime: HostRuntime, given: list[tuple[torch.Tensor, ...]]) -> np.ndarray:
    rows = [runtime.run(tuple(tensor.numpy() for tensor in inputs)) for inputs in given]
    return np.stack([np.concatenate([part.ravel() for part in row]) for row in rows])


def reference(module: nn.Module, given: list[tuple[torch.Tensor, ...]]) -> np.ndarray:
    with torch.no_grad():
        rows = [module(*inputs) for inputs in given]
    parts = [row if isinstance(row, tuple) else (row,) for row in rows]
    return np.stack([np.concatenate([part.numpy().ravel() for part in row]) for row in parts])


__all__ = ["IMAGE", "dataset", "lowered", "outputs", "quantized", "reference", "samples", "settled", "sqnr_db"]
