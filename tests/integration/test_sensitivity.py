"""The simulation is the int8 graph, and its table names the layer that hurts."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

import pytest
import torch
from quantize_models import dataset, lowered, outputs, reference, samples, settled, sqnr_db
from torch import nn
from torch.nn import functional

from edgeq.model import Dataset, Model
from edgeq.progress import SILENT
from edgeq.project import InputSpec
from edgeq.quantize import FloatGraph, quantize
from edgeq.quantize.emit import emit
from edgeq.quantize.sensitivity import measure, sensitivities, that_round
from edgeq.quantize.simulate import Simulation, simulated_sqnr_db
from edgeq.quantize.static import settled as settle
from edgeq.recipe import named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch.fx import GraphModule

    from edgeq.model import Sample
    from edgeq.quantize.scheme import Scheme

IMAGE = (1, 3, 16, 16)


class Branching(nn.Module):
    """Clamps, uneven padding, an addition, a concatenation, a float function in between, a global mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.left = nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False)
        self.right = nn.Conv2d(8, 8, 1, stride=2)
        self.join = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        left = functional.relu(self.left(functional.pad(x, (0, 1, 0, 1))))
        both = torch.cat([left, left + self.right(x)], 1)
        x = functional.gelu(self.join(functional.max_pool2d(both, 2)))
        return self.head(self.right(x).mean((2, 3)))


class Chain(nn.Module):
    """Five layers alike, but for a weight in ``bad`` that is a hundred times as large as all others."""

    def __init__(self, bad: int | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(5))
        if bad is not None:
            with torch.no_grad():
                self.layers[bad].weight[3, 3] = 25.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.first = nn.Linear(6, 3)
        self.second = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = functional.relu(self.stem(x))
        return self.first(x), self.second(x)


def _source(module: nn.Module, given: list[tuple[torch.Tensor, ...]]) -> FloatGraph:
    return FloatGraph(Model(name="small", module=module, example_inputs=given[0]), dataset(given), progress=SILENT)


def _settled(source: FloatGraph, recipe: str = "int8-static") -> tuple[GraphModule, Scheme]:
    found = settle(source, named(recipe), progress=SILENT)
    return found.graph, found.scheme


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("recipe", ["int8-static", "int8-static+per-tensor+symmetric"])
def test_with_everything_in_int8_the_simulation_is_the_emitted_graph(recipe: str) -> None:
    given = samples(IMAGE)
    graph, scheme = _settled(_source(settled(Branching()), given), recipe)
    kinds = {operation.kind for operation in scheme.plan.operations}
    simulated = [Simulation(graph, scheme).outputs(inputs, scheme.plan.operations)[0] for inputs in given]
    emitted = emit(graph, scheme)
    assert kinds == {"layer", "own", "shared"}
    for got, inputs in zip(simulated, given, strict=True):
        assert torch.equal(got, emitted(*inputs))


def test_with_nothing_in_int8_the_simulation_is_the_float_graph_although_biases_were_corrected() -> None:
    given = samples(IMAGE)
    source = _source(settled(Branching()), given)
    graph, scheme = _settled(source)
    corrected = [node for node in graph.graph.nodes if str(node.target).startswith("_folded_")]
    assert len(corrected) > len([node for node in source.graph.graph.nodes if str(node.target).startswith("_folded_")])
    for inputs in given:
        assert torch.equal(Simulation(graph, scheme).outputs(inputs, ())[0], source.graph(*inputs))


def test_known_values_spare_what_comes_before_and_change_nothing() -> None:
    given = samples(IMAGE, count=1)
    graph, scheme = _settled(_source(settled(Branching()), given))
    simulation = Simulation(graph, scheme)
    values = simulation.values(given[0])
    join = next(
        operation
        for operation in scheme.plan.operations
        if operation.node.args[1:2] != () and "join" in str(operation.node.meta.get("nn_module_stack"))
    )
    before = list(itertools.takewhile(lambda node: node is not join.node, graph.graph.nodes))
    computed: list[str] = []
    spared = simulation.outputs(
        given[0],
        (join,),
        known={node: values[node] for node in before},
        watch=lambda node, _value: computed.append(node.name),
    )
    assert torch.equal(spared[0], simulation.outputs(given[0], (join,))[0])
    assert not {node.name for node in before} & set(computed)
    assert join.node.name in computed


def test_the_noise_of_single_operations_adds_up_to_that_of_all() -> None:
    given = samples(IMAGE, count=24)
    graph, scheme = _settled(_source(settled(Branching()), given))
    found = measure(graph, scheme, that_round(scheme), dataset(given), samples=24, progress=SILENT)
    assert found.samples == 24
    assert sum(row.noise_share for row in found.operations) == pytest.approx(1)
    summed = -10 * math.log10(sum(10 ** (-(row.final_sqnr_db or math.inf) / 10) for row in found.operations))
    assert found.final_sqnr_db == pytest.approx(summed, abs=1.5)


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_a_layer_with_an_outlier_among_its_weights_comes_first(bad: int) -> None:
    given = samples((1, 16), count=16)
    graph, scheme = _settled(_source(Chain(bad), given), "int8-static+per-tensor")
    rows = sensitivities(graph, scheme, dataset(given), progress=SILENT)
    assert [row.module for row in rows] == [f"layers.{index}" for index in range(5)]
    worst = max(rows, key=lambda row: row.noise_share)
    assert worst.module == f"layers.{bad}"
    assert worst.noise_share > 0.5
    assert worst.weight_sqnr_db == min(row.weight_sqnr_db or math.inf for row in rows)
    assert "test_sensitivity.py" in worst.source
    assert worst.mac_share == pytest.approx(0.2)


def test_leaving_the_worst_layer_in_float_mends_the_artifact_and_leaving_the_best_does_not(tmp_path: Path) -> None:
    given = samples((1, 16), count=32)
    module = Chain(2)
    source = _source(module, given)
    recipe = named("int8-static+per-tensor")
    rows = sensitivities(*_settled(source, recipe.name), dataset(given), progress=SILENT)
    ranked = sorted(rows, key=lambda row: row.noise_share)
    simulated = simulated_sqnr_db(source.graph, *_settled(source, recipe.name), source.samples(), samples=32)
    decibels = {}
    for name, kept in {"none": (), "worst": (ranked[-1].node,), "best": (ranked[0].node,)}.items():
        program = quantize(source, dataclasses.replace(recipe, keep_float=kept), progress=SILENT)
        _, runtime = lowered(program, "onnx", tmp_path)
        decibels[name] = sqnr_db(reference(module, given), outputs(runtime, given))
    assert simulated == pytest.approx(decibels["none"], abs=0.5)
    assert decibels["worst"] > decibels["none"] + 3
    assert decibels["best"] < decibels["none"] + 1


def test_every_output_of_a_model_counts() -> None:
    given = samples((1, 6))
    graph, scheme = _settled(_source(TwoOutputs(), given))
    rows = {row.module: row for row in sensitivities(graph, scheme, dataset(given), progress=SILENT)}
    assert rows["first"].noise_share > 0
    assert rows["second"].noise_share > 0


def test_a_layer_that_loses_nothing_has_no_ratio() -> None:
    given = samples((1, 16))
    module = nn.Sequential(nn.Linear(16, 4, bias=False))
    nn.init.zeros_(module[0].weight)
    graph, scheme = _settled(_source(module, given))
    (row,) = sensitivities(graph, scheme, dataset(given), progress=SILENT)
    assert (row.weight_sqnr_db, row.final_sqnr_db, row.noise_share, row.answers_changed) == (None, None, 0.0, 0)


def test_samples_are_spread_over_the_data_and_read_only_where_none_was_before() -> None:
    given = [(torch.tensor([[float(index), 0.5]]),) for index in range(100)]
    read: list[int] = []

    def numbers(samples: list[Sample]) -> list[int]:
        return [int(sample.inputs[0][0, 0]) for sample in samples]

    def calibration() -> Iterator[tuple[torch.Tensor]]:
        for inputs in given:
            read.append(int(inputs[0][0, 0]))
            yield inputs

    data = Dataset(calibration, (InputSpec(shape=(1, 2)),), where="calibration", labelled=False)
    assert numbers(data.few(4)) == read == [0, 1, 2, 3]
    list(data)
    del read[:]
    assert numbers(data.few(4)) == [0, 24, 48, 72]
    assert numbers(data.few(200)) == list(range(0, 100, 4))
    assert read == []


class ClampOfWide(nn.Module):
    """What is 100 wide is read as it is by one layer and cut to 0 to 1 by another, on one scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.cut, self.plain = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.last = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x) * 100
        return self.last((self.cut(torch.clamp(y, 0, 1)) + self.plain(y) * 0.01).mean((2, 3)))


def test_a_clamp_that_shares_a_far_wider_scale_has_the_row_with_the_noise() -> None:
    given = samples(IMAGE, count=16)
    graph, scheme = _settled(_source(ClampOfWide(), given))
    found = measure(graph, scheme, that_round(scheme), dataset(given), progress=SILENT)
    layers = sensitivities(graph, scheme, dataset(given), progress=SILENT)

    assert max(found.operations, key=lambda row: row.noise_share).op == "hardtanh"
    assert max(layers, key=lambda row: row.noise_share).module == "first"


def test_a_bias_that_makes_up_for_layers_before_it_is_no_noise_of_its_own_layer() -> None:
    given = samples(IMAGE, count=16)
    graph, scheme = _settled(_source(ClampOfWide(), given))
    found = measure(graph, scheme, that_round(scheme), dataset(given), progress=SILENT)

    assert all((row.own_sqnr_db or math.inf) > 30 for row in found.operations if row.op != "hardtanh")
