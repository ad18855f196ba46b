"""Recurrent layers written out step by step, and what int8-dynamic makes of them in both formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from quantize_models import lowered, outputs, quantized, reference, samples, sqnr_db
from torch import nn

from edgeq.model import Model
from edgeq.progress import Silent
from edgeq.quantize import FloatGraph
from edgeq.quantize.rewrite.recurrent import RECURRENT, unroll_recurrent_layers

if TYPE_CHECKING:
    from pathlib import Path

STEPS, INPUTS, SIZE = 4, 12, 16


class Recurrent(nn.Module):
    """A recurrent layer with all that it gives; the state it starts from is an input if ``given``."""

    def __init__(self, kind: str, *, given: bool = False, **options: Any) -> None:
        super().__init__()
        kinds = {"lstm": nn.LSTM, "gru": nn.GRU, "tanh": nn.RNN, "relu": nn.RNN}
        nonlinearity = {"nonlinearity": kind} if kinds[kind] is nn.RNN else {}
        self.layer = kinds[kind](INPUTS, SIZE, **options, **nonlinearity)
        self.given = given

    def forward(self, x: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        start = (tuple(state) if isinstance(self.layer, nn.LSTM) else state[0]) if self.given else None
        sequence, last = self.layer(x, start)
        return (sequence, *last) if isinstance(last, tuple) else (sequence, last)

    def shapes(self) -> list[tuple[int, ...]]:
        layer = self.layer
        sequence = (1, STEPS, INPUTS) if layer.batch_first else (STEPS, 1, INPUTS)
        rows = layer.num_layers * (2 if layer.bidirectional else 1)
        states = [(rows, 1, layer.proj_size or SIZE), (rows, 1, SIZE)][: 2 if isinstance(layer, nn.LSTM) else 1]
        return [sequence, *(states if self.given else [])]


class Classifier(nn.Module):
    def __init__(self, kind: type[nn.LSTM | nn.GRU], size: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.layer = kind(INPUTS, size, bidirectional=bidirectional, batch_first=True)
        self.head = nn.Linear(size * (2 if bidirectional else 1), 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][:, -1])


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh", "relu"])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_first": True},
        {"num_layers": 2, "bidirectional": True, "batch_first": True, "given": True},
        {"num_layers": 2, "bidirectional": True, "bias": False},
    ],
)
def test_an_unrolled_layer_gives_what_the_layer_gives(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(7)
    _same_unrolled(Recurrent(kind, **options))


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says which of its kernels it takes
def test_an_unrolled_lstm_keeps_its_projection() -> None:
    torch.manual_seed(7)
    _same_unrolled(Recurrent("lstm", num_layers=2, bidirectional=True, proj_size=6, given=True))


def _same_unrolled(module: Recurrent) -> None:
    given = samples(*module.shapes(), count=2)
    model = Model(name="small", module=module.eval(), example_inputs=given[0])
    graph = FloatGraph(model, None, progress=Silent()).copy()

    assert unroll_recurrent_layers(graph)

    assert not [node for node in graph.graph.nodes if node.target in RECURRENT]
    with torch.no_grad():
        for inputs in given:
            for ours, theirs in zip(graph(*inputs), module(*inputs), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_inputs_of_all_steps_are_one_product_and_each_step_reads_the_same_weight() -> None:
    torch.manual_seed(7)
    module = Recurrent("lstm", batch_first=True)
    model = Model(name="small", module=module.eval(), example_inputs=samples(*module.shapes())[0])
    graph = FloatGraph(model, None, progress=Silent()).copy()

    unroll_recurrent_layers(graph)

    linear = [node for node in graph.graph.nodes if node.target is torch.ops.aten.linear.default]
    assert linear[0].meta["val"].shape == (STEPS, 1, 4 * SIZE)
    assert len(linear) == STEPS  # the first step starts from zeros and needs no product
    assert len({node.args[1] for node in linear[1:]}) == 1


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_dynamic_pte_multiplies_integers_at_every_step_and_stores_weights_once(
    kind: type[nn.LSTM | nn.GRU], tmp_path: Path
) -> None:
    torch.manual_seed(7)
    classifier = Classifier(kind, 96).eval()
    given = samples((1, STEPS, INPUTS))
    program = quantized(classifier, given, "int8-dynamic")
    coverage, runtime = lowered(program, "pte", tmp_path)

    assert coverage.int8_mac_share == 1.0
    assert coverage.partitions == 1
    assert coverage.undelegated == ()
    assert sqnr_db(reference(classifier, given), outputs(runtime, given)) > 35
    integers = sum(tensor.numel() for tensor in classifier.parameters())
    assert (tmp_path / "small.pte").stat().st_size < 2 * integers  # a copy for each step would be four times as large


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_dynamic_onnx_keeps_the_layer_whole_on_the_integers_of_the_pte(
    kind: type[nn.LSTM | nn.GRU], tmp_path: Path
) -> None:
    torch.manual_seed(7)
    classifier = Classifier(kind, 32, bidirectional=True).eval()
    given = samples((1, STEPS, INPUTS))
    program = quantized(classifier, given, "int8-dynamic")
    coverage, runtime = lowered(program, "onnx", tmp_path)

    model = onnx.load(tmp_path / "small.onnx")
    operators = [node.op_type for node in model.graph.node]
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]
    assert all(max(tensor.dims) <= 8 * 32 for tensor in floats)  # states, biases and scales, no weight
    if isinstance(classifier.layer, nn.LSTM):
        assert operators.count("DynamicQuantizeLSTM") == 1
        assert coverage.int8_mac_share == 1.0
        assert coverage.undelegated == ()
    else:  # ONNX Runtime has no integer kernel for it, and that is said
        assert operators.count("GRU") == 1
        assert {row.op for row in coverage.undelegated} == {"GRU"}
        assert coverage.int8_mac_share < 0.05
    assert sqnr_db(reference(classifier, given), outputs(runtime, given)) > 35
    stored = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_int8")]
    used = {node.args[0].name for node in program.program.graph.nodes if "dequantize_per_channel" in node.name}
    constants = program.program.graph_signature.inputs_to_buffers
    integers = [program.program.state_dict[constants[name]].numpy() for name in used]
    assert sorted(np.concatenate([a.ravel() for a in stored])) == sorted(np.concatenate([a.ravel() for a in integers]))
