"""int8-dynamic: no calibration data, integer products in both runtimes, one set of integers for both files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from quantize_models import lowered, outputs, reference, samples, sqnr_db
from torch import nn
from torch.nn import functional

from edgeq.errors import RecipeError
from edgeq.model import Model
from edgeq.progress import Silent
from edgeq.quantize import FloatGraph, QuantizedProgram, quantize
from edgeq.recipe import named

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOKENS = (1, 12, 32)


class Block(nn.Module):
    """A transformer layer, norm first, with attention by torch's own function."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.out = nn.Linear(size, size, bias=False)
        self.up, self.down = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.before(x)
        query, key, value = (
            layer(normed).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.between(x))))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block(32, 4)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(x).mean(1))


class Convolutions(nn.Module):
    """A convolution of each kind that matters here; one reads what a padding of its own has made."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide = nn.Conv2d(16, 24, 3, stride=2, bias=False)
        self.head = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.depthwise(functional.relu(self.stem(x))))
        return self.head(self.wide(functional.pad(x, (0, 1, 0, 1))).mean((2, 3)))


def dynamic(module: nn.Module, given: list[tuple[torch.Tensor, ...]], *keep_float: str) -> QuantizedProgram:
    model = Model(name="small", module=module.eval(), example_inputs=given[0])
    recipe = replace(named("int8-dynamic"), keep_float=keep_float)
    return quantize(FloatGraph(model, None, progress=Silent()), recipe, progress=Silent())


def simulated(program: QuantizedProgram, given: list[tuple[torch.Tensor, ...]]) -> np.ndarray:
    return reference(program.program.module(), given)


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    torch.manual_seed(7)
    return Transformer().eval()


def test_a_transformer_needs_no_data_and_keeps_its_results_in_both_runtimes(
    transformer: Transformer, tmp_path: Path
) -> None:
    given = samples(TOKENS)
    program = dynamic(transformer, given)
    wanted = reference(transformer, given)
    found = {}
    for form in ("pte", "onnx"):
        coverage, runtime = lowered(program, form, tmp_path)
        found[form] = outputs(runtime, given)
        assert sqnr_db(wanted, found[form]) > 30
        assert coverage.int8_mac_share > 0.9
        assert coverage.delegated_mac_share == 1.0
        with_macs = [row for row in coverage.undelegated if row.mac_share]
        code = "float-kernel" if form == "pte" else "no-common-kernel"
        assert {row.reason.split(":")[0] for row in with_macs} == {code}  # the two products of attention
        assert sum(row.mac_share for row in with_macs) == pytest.approx(1 - coverage.int8_mac_share)
    assert program.calibration is None
    assert sqnr_db(found["pte"], found["onnx"]) > 30
    assert sqnr_db(simulated(program, given), found["pte"]) > 40  # the graph is what XNNPACK computes


def test_both_files_hold_the_same_integers(transformer: Transformer, tmp_path: Path) -> None:
    given = samples(TOKENS, count=1)
    program = dynamic(transformer, given)
    lowered(program, "onnx", tmp_path)

    tensors = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "small.onnx").graph.initializer]
    stored = {array.T.tobytes() for array in tensors if array.dtype == np.int8 and array.ndim == 2}
    integers = {t.numpy().tobytes() for t in program.program.state_dict.values() if t.dtype == torch.int8}
    assert stored == integers
    assert len(stored) == 7


def test_a_file_is_a_third_of_its_float_twin(tmp_path: Path) -> None:
    torch.manual_seed(7)
    given = samples((1, 256), count=1)
    net = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 5))
    program = dynamic(net, given)
    twin = FloatGraph(Model(name="small", module=net, example_inputs=given[0]), None, progress=Silent()).float_twin(
        named("fp32")
    )
    for form in ("pte", "onnx"):
        sizes = []
        for one in (program, twin):
            lowered(one, form, tmp_path)
            sizes.append((tmp_path / f"small.{form}").stat().st_size)
        assert sizes[0] < sizes[1] / 3


def test_plain_convolutions_become_int8_and_depthwise_ones_are_listed_as_float(tmp_path: Path) -> None:
    torch.manual_seed(7)
    module = Convolutions().eval()
    given = samples((1, 3, 12, 12))
    program = dynamic(module, given)
    for form, operator in (("pte", "aten.convolution.default"), ("onnx", "Conv")):
        coverage, runtime = lowered(program, form, tmp_path)
        assert [row.op for row in coverage.undelegated] == [operator]
        assert coverage.int8_mac_share == pytest.approx(1 - coverage.undelegated[0].mac_share)
        assert "depthwise" in coverage.undelegated[0].source
        found = outputs(runtime, given)
        assert sqnr_db(reference(module, given), found) > 30
        assert sqnr_db(simulated(program, given), found) > 40


def test_a_layer_that_the_recipe_keeps_float_is_float_in_both_files(tmp_path: Path) -> None:
    torch.manual_seed(7)
    module = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 5))
    given = samples((1, 32))
    program = dynamic(module, given, "2")
    for form in ("pte", "onnx"):
        coverage, _ = lowered(program, form, tmp_path)
        assert coverage.int8_mac_share == pytest.approx(32 * 64 / (32 * 64 + 64 * 5))
        assert len(coverage.undelegated) == 1

    with pytest.raises(RecipeError, match="no layer is called 'haed'"):
        dynamic(module, given, "haed")


def test_rows_of_zeros_and_channels_of_zeros_stay_zero(tmp_path: Path) -> None:
    torch.manual_seed(7)
    layer = nn.Linear(16, 8, bias=False)
    layer.weight.data[3] = 0
    given = [(torch.zeros(1, 4, 16),), (torch.randn(1, 4, 16),)]
    program = dynamic(layer, given)
    for form in ("pte", "onnx"):
        _, runtime = lowered(program, form, tmp_path)
        zeros, found = (runtime.run((inputs[0].numpy(),))[0] for inputs in given)
        assert not zeros.any()
        assert not found[..., 3].any()


@pytest.mark.parametrize(
    ("before", "in_int8"),
    [
        (lambda x: x, True),
        (functional.gelu, True),
        (lambda x: x + 1, False),
        (lambda x: x.reshape(1, 8, 4, 16), False),
        (lambda x: x[:, :, 1:], False),
        (lambda x: functional.max_pool2d(x, 2)[:, :, 1:], True),
    ],
    ids=["the input", "a function", "a sum", "a reshape", "a slice", "a slice behind a pooling"],
)
def test_a_convolution_is_int8_where_executorch_can_turn_what_it_reads(
    before: Callable[[torch.Tensor], torch.Tensor], in_int8: bool, tmp_path: Path
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(before(x))

    torch.manual_seed(0)
    coverage, _ = lowered(dynamic(Net().eval(), samples((1, 8, 8, 8))), "pte", tmp_path)  # and runs it
    assert coverage.int8_mac_share == float(in_int8)
