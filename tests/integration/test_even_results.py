"""Scales of their own for the channels of results that float operators read, where a residual stream has outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from quantize_models import dataset, lowered, outputs, quantized, reference, samples, sqnr_db
from torch import nn
from torch.nn import functional

from edgeq.model import Model
from edgeq.progress import SILENT
from edgeq.quantize import FloatGraph
from edgeq.quantize.even_results import even_results

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = (1, 12, 32)


class Residual(nn.Module):
    """Two features of what the network adds to the residual stream are 200 times the others, as in BERT."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 8)
        with torch.no_grad():
            self.narrow.weight[[3, 17]] *= 200.0
            self.norm.weight[[3, 17]] = 0.01
            self.norm.weight[torch.arange(32) % 14 != 3] = 20.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(x + self.narrow(functional.relu(self.wide(x)))))


class Even(nn.Module):
    """Every channel of what the addition reads is as large as the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.norm, self.head = nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(x + self.first(x)))


def source_of(module: nn.Module, given: list[tuple[torch.Tensor, ...]]) -> FloatGraph:
    model = Model(name="small", module=module.eval(), example_inputs=given[0])
    return FloatGraph(model, dataset(given), progress=SILENT)


@pytest.mark.parametrize("form", ["pte", "onnx"])
def test_outliers_of_a_residual_stream_do_not_take_the_steps_from_other_features(tmp_path: Path, form: str) -> None:
    module, given, fresh = Residual().eval(), samples(TOKENS, count=128), samples(TOKENS, count=16, seed=5)

    def sqnr(recipe: str) -> float:
        coverage, runtime = lowered(quantized(module, given, recipe), form, tmp_path)
        assert coverage.int8_mac_share == 1.0
        return sqnr_db(reference(module, fresh), outputs(runtime, fresh))

    assert sqnr("int8-static") > sqnr("int8-static+no-smooth") + 6.0


def test_the_float_graph_gives_what_it_gave() -> None:
    given = samples(TOKENS, count=8)
    source = source_of(Residual(), given)
    graph = source.copy()

    assert even_results(graph, source.statistics(progress=SILENT)) == 1

    with torch.no_grad():
        for inputs in given:
            torch.testing.assert_close(graph(*inputs)[0], source.graph(*inputs)[0], rtol=1e-4, atol=1e-4)


def test_even_channels_and_results_of_the_model_are_left_alone() -> None:
    given = samples(TOKENS, count=8)
    source = source_of(Even(), given)
    graph = source.copy()

    assert even_results(graph, source.statistics(progress=SILENT)) == 0
    assert graph.code == source.graph.code
