"""What quantizing keeps, refuses and restores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from quantize_models import IMAGE, lowered, outputs, quantized, reference, samples, settled, sqnr_db
from torch import nn
from torch.nn import functional

from edgeq.errors import EmptyDatasetError, ExportError, NonFiniteActivationError
from edgeq.model import Dataset, Model
from edgeq.progress import Silent
from edgeq.quantize import FloatGraph, quantize
from edgeq.quantize.histogram import Histogram
from edgeq.quantize.source import source_of
from edgeq.recipe import named

if TYPE_CHECKING:
    from pathlib import Path


class Mixed(nn.Module):
    """What every rewrite of the float graph touches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, padding="same", bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 2, padding="same"))
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.line = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.norm(self.layer(x)), inplace=True)
        x = self.weighted(functional.pad(x, (1, 1, 1, 1))).clamp_(-2.0)
        x = functional.hardsigmoid(x) * 2 + functional.hardtanh(x, -0.5, 0.5)
        first, second = x.split([3, 5], dim=1)
        x = torch.cat([second, first], 1)
        tokens = self.attention(x.flatten(2).transpose(1, 2))
        return self.line(self.drop(tokens.mean(1))) + x.mean((2, 3)) + functional.max_pool1d(tokens, 2)[:, 0].sum()


def test_the_simplified_float_graph_gives_what_the_module_gives() -> None:
    torch.manual_seed(7)
    module = settled(Mixed())
    given = samples((1, 3, 6, 6))

    graph = quantized(module, given, "fp32").float_program.module()

    with torch.no_grad():
        for inputs in given:
            torch.testing.assert_close(graph(*inputs), module(*inputs), rtol=1e-5, atol=1e-5)


def test_the_module_is_not_changed_and_threads_are_put_back() -> None:
    torch.manual_seed(7)
    module = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(inplace=True)))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    threads = torch.get_num_threads()

    quantized(module, samples(IMAGE))

    assert torch.get_num_threads() == threads
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_has_no_int8_kernel_stays_float_and_is_listed_with_its_source_line(tmp_path: Path) -> None:
    class Mobile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1)
            self.second = nn.Conv2d(8, 8, 1)
            self.line = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.second(functional.hardswish(self.first(x)))
            tokens = functional.layer_norm(x.flatten(2).transpose(1, 2), [8])
            scores = torch.softmax(tokens @ tokens.transpose(1, 2), -1)
            return functional.gelu(self.line(scores @ tokens))

    torch.manual_seed(7)
    module = settled(Mobile())
    given = samples((1, 3, 6, 6))
    program = quantized(module, given)

    pte, runtime = lowered(program, "pte", tmp_path)
    rows = {row.op.split(".")[-2]: row for row in pte.undelegated}
    assert {"native_layer_norm", "_softmax", "gelu", "bmm"} <= set(rows)
    assert "hardswish" not in rows
    assert rows["_softmax"].reason.startswith("float-kernel: ")
    assert rows["gelu"].reason.startswith("float-operands: ")
    assert rows["native_layer_norm"].reason.startswith("no-kernel: ")
    assert "functional.gelu(self.line(scores @ tokens))" in rows["gelu"].source
    products = sum(row.mac_share for row in pte.undelegated if "bmm" in row.op)
    assert products == pytest.approx(1.0 - pte.int8_mac_share)
    assert 0 < pte.int8_mac_share < 1
    assert "aten::native_layer_norm.out" in pte.requires.ops
    assert sqnr_db(reference(module, given), outputs(runtime, given)) > 20.0

    onnx, runtime = lowered(program, "onnx", tmp_path)
    in_float = {row.op for row in onnx.undelegated}
    assert {"LayerNormalization", "Softmax", "Gelu"} <= in_float
    assert not {"HardSwish", "Add"} & in_float
    assert sqnr_db(reference(module, given), outputs(runtime, given)) > 20.0


def test_a_recurrent_layer_stays_float_and_its_macs_are_counted(tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(4, 8, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.cell(x)[0][:, -1])

    torch.manual_seed(7)
    module = settled(Recurrent())
    given = samples((1, 3, 4))
    program = quantized(module, given)

    for form in ("pte", "onnx"):
        coverage, runtime = lowered(program, form, tmp_path)
        assert coverage.macs == 3 * (4 * 32 + 8 * 32) + 16
        of_the_file = coverage.macs - (8 * 32 if form == "pte" else 0)  # step by step, the first has no state to read
        assert coverage.int8_mac_share == pytest.approx(16 / of_the_file)
        assert coverage.partitions == 1
        assert sum(row.mac_share for row in coverage.undelegated) == pytest.approx(1 - coverage.int8_mac_share)
        assert sqnr_db(reference(module, given), outputs(runtime, given)) > 25.0


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Linear(6, 8)
            self.right = nn.Linear(4, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            z = functional.relu(self.left(x) * self.right(y))
            return self.head(z), torch.softmax(z, -1)

    torch.manual_seed(7)
    module = settled(Two())
    given = samples((1, 6), (1, 4))
    program = quantized(module, given)

    for form in ("pte", "onnx"):
        coverage, runtime = lowered(program, form, tmp_path)
        assert [spec.shape for spec in coverage.inputs] == [(1, 6), (1, 4)]
        assert [spec.shape for spec in coverage.outputs] == [(1, 3), (1, 8)]
        assert [array.shape for array in runtime.run(tuple(t.numpy() for t in given[0]))] == [(1, 3), (1, 8)]
        assert sqnr_db(reference(module, given), outputs(runtime, given)) > 25.0


@pytest.mark.parametrize("recipe", ["fp32", "int8-static"])
def test_channels_last_inputs_and_weights_give_artifacts_that_run(recipe: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    module = settled(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 4, 1)))
    module = module.to(memory_format=torch.channels_last)
    given = [(inputs[0].to(memory_format=torch.channels_last),) for inputs in samples(IMAGE)]
    program = quantized(module, given, recipe)

    for form in ("pte", "onnx"):
        _, runtime = lowered(program, form, tmp_path)
        assert sqnr_db(reference(module, given), outputs(runtime, given)) > 30.0


def test_nan_in_an_activation_names_the_layer() -> None:
    class Divides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.log(functional.relu(self.first(x)) * 0))

    with pytest.raises(NonFiniteActivationError, match=r"torch\.log") as caught:
        quantized(settled(Divides()), samples((1, 4)))
    assert "division by zero" in caught.value.hint


def test_a_branch_on_a_value_is_refused_with_the_users_line() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ExportError) as caught:
        quantized(settled(Branches()), samples((1, 4)))
    assert "x * 2 if x.sum() > 0 else x" in caught.value.hint
    assert "torch.export" in caught.value.hint
    assert caught.value.detail


def test_no_calibration_sample_is_an_error() -> None:
    given = samples((1, 4))
    module = settled(nn.Linear(4, 4))
    model = Model(name="small", module=module, example_inputs=given[0])
    data = Dataset(lambda: iter(()), (), where="data.py:calibration", labelled=False)
    with pytest.raises(EmptyDatasetError, match=r"data\.py:calibration"):
        quantize(FloatGraph(model, data, progress=Silent()), named("int8-static"), progress=Silent())


def test_the_calibration_data_are_fingerprinted() -> None:
    program = quantized(settled(nn.Linear(4, 4)), samples((1, 4), count=5))

    assert program.calibration is not None
    assert program.calibration.samples == 5
    assert len(program.calibration.sha256) == 64
    assert quantized(settled(nn.Linear(4, 4)), samples((1, 4)), "fp32").calibration is None


def test_the_range_of_least_error_is_the_one_that_rounding_confirms() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(50_000, generator=generator) ** 3
    values[:10_000] = 0.0
    histogram = Histogram()
    for chunk in (values[9_990:10_020], values):  # the second chunk makes the range grow
        histogram.add(chunk, float(chunk.min()), float(chunk.max()))

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        return float((torch.round(values.clamp(low, high) / step) * step - values).square().sum())

    low, high = histogram.range_of_least_error(float(values.min()), float(values.max()), levels=255)
    fractions = [index / 20 for index in range(1, 21)]
    best = min(error(float(values.min()) * a, float(values.max()) * b) for a in fractions for b in fractions)

    assert error(low, high) < 1.05 * best
    assert error(low, high) < error(float(values.min()), float(values.max()))


def test_a_layer_that_only_torchs_own_code_calls_is_named_by_its_class() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Hardswish()))
    exported = torch.export.export(network.eval(), (torch.randn(1, 3, 8, 8),))
    sources = [source_of(node) for node in exported.graph.nodes if node.op == "call_function"]
    assert sources == ["0 (Conv2d)", "1.0 (Hardswish)"]
