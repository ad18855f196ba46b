"""SmoothQuant, on a transformer whose layer norms have the few large gains that large models are known for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from quantize_models import dataset, lowered, outputs, quantized, reference, samples, sqnr_db
from torch import nn
from torch.nn import functional

from edgeq.model import Model
from edgeq.progress import SILENT
from edgeq.quantize import FloatGraph
from edgeq.quantize.smooth import smooth

if TYPE_CHECKING:
    from pathlib import Path

    from torch.fx import GraphModule

TOKENS = (1, 12, 32)
OUTLIER = 60.0


class Block(nn.Module):
    """A layer norm before attention and one before a ReLU network; RMS norm and a head without bias at the end."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second, self.last = nn.LayerNorm(32), nn.LayerNorm(32), nn.RMSNorm(32)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.project, self.wide, self.narrow = nn.Linear(32, 32), nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 8, bias=False)
        with torch.no_grad():
            readers = ((self.query, self.key, self.value), (self.wide,), (self.head,))
            for norm, layers in zip((self.first, self.second, self.last), readers, strict=True):
                norm.weight[[3, 17]] *= OUTLIER
                for layer in layers:
                    layer.weight[:, [3, 17]] /= OUTLIER

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x).transpose(0, 1)
        query, key, value = (layer(y).transpose(0, 1) for layer in (self.query, self.key, self.value))
        x = x + self.project(functional.scaled_dot_product_attention(query, key, value))
        x = x + self.narrow(functional.relu(self.wide(self.second(x))))
        return self.head(self.last(x))


def smoothed(module: nn.Module, given: list[tuple[torch.Tensor, ...]], **how: float) -> tuple[GraphModule, int]:
    source = FloatGraph(
        Model(name="small", module=module.eval(), example_inputs=given[0]), dataset(given), progress=SILENT
    )
    graph = source.copy()
    return graph, smooth(graph, source.statistics(progress=SILENT), **how)


@pytest.mark.parametrize("form", ["pte", "onnx"])
def test_outliers_of_a_layer_norm_move_into_the_weights(form: str, tmp_path: Path) -> None:
    module, given, fresh = Block().eval(), samples(TOKENS, count=16), samples(TOKENS, count=8, seed=2)

    def sqnr(recipe: str) -> float:
        _, runtime = lowered(quantized(module, given, recipe), form, tmp_path)
        return float(sqnr_db(reference(module, fresh), outputs(runtime, fresh)))

    assert sqnr("int8-static+smooth") > sqnr("int8-static+no-smooth") + 10.0


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_float_network_gives_what_it_gave(alpha: float) -> None:
    module = Block()
    graph, changed = smoothed(module, samples(TOKENS), alpha=alpha)

    assert changed == 4  # three norms, and the layer before the ReLU
    fresh = samples(TOKENS, count=4, seed=9)
    expected = reference(module, fresh)
    np.testing.assert_allclose(reference(graph, fresh), expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))


def test_a_tensor_that_somebody_else_reads_too_is_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.line = nn.LayerNorm(32), nn.Linear(32, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(x)
            return self.line(y) + functional.gelu(y)

    assert smoothed(Shared(), samples(TOKENS))[1] == 0


def test_a_norm_without_gain_gets_one_and_dead_channels_stay() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.line = nn.LayerNorm(32, elementwise_affine=False), nn.Linear(32, 32)
            with torch.no_grad():
                self.line.weight[:, 5] = 0.0
                self.line.weight[:, 7] *= 100.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.line(self.norm(x))

    module, given = Plain(), samples(TOKENS)
    graph, changed = smoothed(module, given)

    assert changed == 1
    np.testing.assert_allclose(reference(graph, given), reference(module, given), rtol=1e-4, atol=1e-4)
