"""The files themselves: equal scales, exact remapping, the same bytes twice, and what is said of broken ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from quantize_models import IMAGE, lowered, outputs, quantized, reference, samples, settled
from torch import nn

from edgeq.errors import ArtifactError, LoweringError
from edgeq.host import HostRuntime
from edgeq.lower import lower
from edgeq.target import load_target

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.quantize import QuantizedProgram


class Small(nn.Module):
    """Each kind of scale: own, shared, clamped where the scale is shared, per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.branch = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.other = nn.Conv2d(8, 4, 1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(torch.cat([x + self.branch(x), torch.relu(self.branch(x)), self.other(x)], 1))


@pytest.fixture(scope="module")
def program() -> QuantizedProgram:
    torch.manual_seed(7)
    return quantized(settled(Small()), samples(IMAGE))


def scales_of(model: onnx.ModelProto) -> set[float]:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return {float(arrays[node.input[1]]) for node in nodes}


def test_both_files_have_the_scales_of_the_one_graph(program: QuantizedProgram, tmp_path: Path) -> None:
    lowered(program, "onnx", tmp_path)

    quantizes = [node for node in program.program.graph.nodes if "quantize_per_tensor" in node.name]
    in_graph = {float(np.float32(node.args[1])) for node in quantizes}
    assert scales_of(onnx.load(tmp_path / "small.onnx")) == in_graph


def test_weights_and_biases_are_stored_as_integers_without_notes_of_the_machine(
    program: QuantizedProgram, tmp_path: Path
) -> None:
    lowered(program, "onnx", tmp_path)
    model = onnx.load(tmp_path / "small.onnx")

    dtypes = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    floats = [name for name, dtype in dtypes.items() if dtype == onnx.TensorProto.FLOAT]
    reads = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert set(floats) <= {node.input[1] for node in reads}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    biases = [next(n for n in reads if n.output[0] == layer.input[2]).input[0] for layer in layers]
    assert {dtypes[name] for name in biases} == {onnx.TensorProto.INT32}
    assert b"stack_trace" not in (tmp_path / "small.onnx").read_bytes()
    assert b"site-packages" not in (tmp_path / "small.onnx").read_bytes()


def test_unsigned_activations_stand_for_the_same_values_bit_by_bit(program: QuantizedProgram, tmp_path: Path) -> None:
    signed, unsigned = tmp_path / "signed.onnx", tmp_path / "unsigned.onnx"
    lower(program, "onnx", load_target("rpi4"), signed)
    lower(program, "onnx", load_target("host"), unsigned)

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(unsigned).graph.initializer}
    quantizes = [node for node in onnx.load(unsigned).graph.node if node.op_type == "QuantizeLinear"]
    assert all(arrays[node.input[2]].dtype == np.uint8 for node in quantizes)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    sessions = [ort.InferenceSession(path, options) for path in (signed, unsigned)]
    for inputs in samples(IMAGE, seed=9):
        feeds = {sessions[0].get_inputs()[0].name: inputs[0].numpy()}
        np.testing.assert_array_equal(*(session.run(None, feeds)[0] for session in sessions))


@pytest.mark.parametrize("form", ["pte", "onnx"])
def test_the_same_model_and_data_give_the_same_bytes(form: str, tmp_path: Path) -> None:
    hashes = set()
    for _ in range(2):
        torch.manual_seed(7)
        lowered(quantized(settled(Small()), samples(IMAGE)), form, tmp_path)
        hashes.add(hashlib.sha256((tmp_path / f"small.{form}").read_bytes()).hexdigest())

    assert len(hashes) == 1


def test_lowering_to_one_format_does_not_change_what_the_next_lowering_gives(
    program: QuantizedProgram, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def hashes() -> list[str]:
        for form in ("pte", "onnx"):
            lowered(program, form, tmp_path)
        return [hashlib.sha256((tmp_path / f"small.{form}").read_bytes()).hexdigest() for form in ("pte", "onnx")]

    assert hashes() == hashes()
    assert capfd.readouterr().out == ""  # one JSON document is all that may stand there


def test_a_pte_says_what_it_requires_and_how_many_macs_it_has(program: QuantizedProgram, tmp_path: Path) -> None:
    coverage, _ = lowered(program, "pte", tmp_path)

    assert coverage.requires.runtime == "executorch"
    assert coverage.requires.backends == ("XnnpackBackend",)
    assert coverage.requires.version.startswith("1.")
    assert coverage.macs == sum((16 * 16 * 8 * 27, 2 * 16 * 16 * 8 * 9, 16 * 16 * 4 * 8, 20 * 5))


@pytest.mark.parametrize("form", ["pte", "onnx"])
def test_a_damaged_or_missing_file_is_an_error_and_no_crash(
    program: QuantizedProgram, form: str, tmp_path: Path
) -> None:
    lowered(program, form, tmp_path)
    path = tmp_path / f"small.{form}"
    whole = path.read_bytes()

    for data in (b"", b"not a model", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(ArtifactError, match="does not run"):
            HostRuntime(path, form).run((samples(IMAGE)[0][0].numpy(),))
    path.unlink()
    with pytest.raises(ArtifactError, match="does not exist"):
        HostRuntime(path, form)


@pytest.mark.parametrize("form", ["pte", "onnx"])
def test_an_input_of_another_shape_is_an_error_that_names_it(
    program: QuantizedProgram, form: str, tmp_path: Path
) -> None:
    _, runtime = lowered(program, form, tmp_path)

    with pytest.raises(ArtifactError, match=r"float32 \[1, 3, 5, 5\]"):
        runtime.run((np.zeros((1, 3, 5, 5), np.float32),))


class Bessel(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(super().forward(x))


class Sorted(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return torch.sort(y)[0]


class Distances(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return torch.cdist(y, y + 1)


def test_an_operator_that_executorch_does_not_know_is_named_with_its_line(tmp_path: Path) -> None:
    program = quantized(Bessel(4, 4).eval(), samples((1, 4)), "fp32")

    with pytest.raises(LoweringError, match=r"does not know aten\.special_bessel_j0") as caught:
        lowered(program, "pte", tmp_path)

    assert "torch.special.bessel_j0(super().forward(x))" in caught.value.hint
    assert "no other format takes it either" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_operator_without_a_kernel_is_named_with_its_line_and_the_format_that_has_one(tmp_path: Path) -> None:
    program = quantized(Sorted(4, 4).eval(), samples((1, 4)))

    with pytest.raises(LoweringError, match=r"no kernel for aten::sort\.values") as caught:
        lowered(program, "pte", tmp_path)

    assert "torch.sort(y)[0]" in caught.value.hint
    assert "--format onnx alone" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_onnx_does_not_have_is_named_with_its_line_and_the_format_that_has_it(tmp_path: Path) -> None:
    program = quantized(Distances(4, 4).eval(), samples((1, 4)))

    with pytest.raises(LoweringError, match=r"ONNX has nothing for aten\._cdist_forward") as caught:
        lowered(program, "onnx", tmp_path)

    assert "torch.cdist(y, y + 1)" in caught.value.hint
    assert "--format pte alone" in caught.value.hint


def test_a_failure_that_names_no_operator_is_told_with_its_cause_and_the_node_at_work(
    program: QuantizedProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(graph: torch.fx.GraphModule) -> None:
        for node in graph.graph.nodes:
            if node.op == "call_function" and "convolution" in node.name:
                raise KeyError("val")

    monkeypatch.setattr("edgeq.lower.executorch.read_apart", fails)

    with pytest.raises(LoweringError, match=r"\(at convolution\)") as caught:
        lowered(program, "pte", tmp_path)

    assert "KeyError: 'val'" in caught.value.detail
    assert "test_lower_files.py" in caught.value.hint


def test_a_file_that_its_runtime_does_not_run_is_no_artifact(tmp_path: Path) -> None:
    solid = quantized(settled(nn.Conv3d(1, 2, 3)), samples((1, 1, 4, 4, 4)), "fp32")

    with pytest.raises(LoweringError, match=r"kernel for aten::convolution\.out does not run") as caught:
        lowered(solid, "pte", tmp_path)

    assert "Expect input tensor to be 3-D or 4-D" in caught.value.detail
    assert "--format onnx alone" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_zeros_around_a_max_pooling_stay_zeros_in_onnx_runtime(tmp_path: Path) -> None:
    class Pools(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.max_pool2d(nn.functional.pad(x, (1, 0, 0, 1)), 2)

    given = [(-1.0 - inputs[0].abs(),) for inputs in samples(IMAGE)]
    _, runtime = lowered(quantized(Pools().eval(), given, "fp32"), "onnx", tmp_path)

    np.testing.assert_array_equal(outputs(runtime, given), reference(Pools(), given))


@pytest.mark.parametrize(("dtype", "fused"), [("uint8", True), ("int16", False), ("uint16", False)])
def test_no_kernel_of_onnx_runtime_computes_on_sixteen_bit_activations(dtype: str, fused: bool, tmp_path: Path) -> None:
    """docs/decisions/no-16-bit-activations.md rests on this."""
    graph = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 21]>
        layer (float[1, 8, 8, 8] x) => (float[1, 8, 8, 8] y)
        <float s = {{0.01}}, {dtype} z = {{0}}, float t = {{0.01}}, int8 n = {{0}},
         int8[8, 8, 1, 1] w = {{{", ".join(["3", "-2"] * 32)}}}>
        {{
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            v = DequantizeLinear (w, t, n)
            c = Conv (d, v)
            p = QuantizeLinear (c, s, z)
            y = DequantizeLinear (p, s, z)
        }}
    """)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kernels = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert ("QLinearConv" in kernels) == fused
    assert ("Conv" in kernels) != fused


class CalledOften(nn.Module):
    """One layer called on one input, each result stored at another scale; one of them is an output."""

    def __init__(self, layer: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.layer, self.last = layer, last

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.last(torch.relu(self.layer(x))), self.layer(x), self.last(torch.clamp(self.layer(x), -0.2, 0.1))


class AddedOften(nn.Module):
    """Two layers whose sum is stored at two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        one, other = self.first(x), self.second(x)
        return self.last(torch.relu(one + other)), self.last(torch.clamp(one + other, -0.2, 0.1))


CALLED_OFTEN = {
    "a convolution": (lambda: nn.Conv2d(3, 8, 3), lambda: nn.Conv2d(8, 4, 1), IMAGE),
    "behind a padding": (
        lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, stride=2)),
        lambda: nn.Conv2d(8, 4, 1),
        IMAGE,
    ),
    "a linear layer": (lambda: nn.Linear(16, 8), lambda: nn.Linear(8, 4), (3, 16)),
    "a linear layer on rows": (lambda: nn.Linear(16, 8), lambda: nn.Linear(8, 4), (2, 3, 16)),
}


@pytest.mark.parametrize("case", CALLED_OFTEN)
def test_each_call_of_a_shared_layer_runs_in_int8_where_each_result_has_its_own_scale(
    case: str, tmp_path: Path
) -> None:
    layer, last, shape = CALLED_OFTEN[case]
    torch.manual_seed(0)
    given = samples(shape)
    program = quantized(CalledOften(layer(), last()).eval(), given)
    _, pte = lowered(program, "pte", tmp_path)
    for target in ("rpi4", "host"):
        coverage, onnx_file = lowered(program, "onnx", tmp_path, target)
        assert (coverage.int8_mac_share, coverage.undelegated) == (1.0, ())
        assert np.array_equal(outputs(onnx_file, given), outputs(pte, given))


def test_a_sum_runs_in_int8_at_each_scale_it_is_stored_at(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = samples(IMAGE)
    program = quantized(AddedOften().eval(), given)
    coverage, onnx_file = lowered(program, "onnx", tmp_path)
    assert (coverage.int8_mac_share, coverage.undelegated) == (1.0, ())
    _, pte = lowered(program, "pte", tmp_path)
    assert np.array_equal(outputs(onnx_file, given), outputs(pte, given))


def test_what_has_no_int8_kernel_is_computed_once_for_all_that_store_it(tmp_path: Path) -> None:
    program = quantized(CalledOften(nn.ConvTranspose2d(3, 8, 3), nn.Conv2d(8, 4, 1)).eval(), samples(IMAGE))
    lowered(program, "onnx", tmp_path)
    nodes = [node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node]
    assert nodes.count("ConvTranspose") == 1
