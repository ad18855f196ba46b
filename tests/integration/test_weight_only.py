"""int8-weight-only and int4-weight-only: small files, the same numbers in both runtimes, honest about what is left."""

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

from edgeq.errors import RecipeError
from edgeq.model import Model
from edgeq.progress import Silent
from edgeq.quantize import FloatGraph, QuantizedProgram, quantize
from edgeq.quantize.integer_weights import int4_by_group, int8_by_channel
from edgeq.recipe import named

if TYPE_CHECKING:
    from pathlib import Path


class Words(nn.Module):
    """Token ids in, logits out: a table, and linear layers of every kind of width."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 96)
        self.up = nn.Linear(96, 512)
        self.across = nn.Linear(512, 300)
        self.head = nn.Linear(300, 5, bias=False)  # 300 is no multiple of any group

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.across(torch.relu(self.up(self.table(ids)))))
        return self.head(x).mean(1)


def ids(count: int) -> list[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randint(0, 20, (1, 7), generator=generator),) for _ in range(count)]


def few_bits(module: nn.Module, given: list[tuple[torch.Tensor, ...]], bits: int, group: int = 32) -> QuantizedProgram:
    model = Model(name="small", module=module.eval(), example_inputs=given[0])
    recipe = replace(named(f"int{bits}-weight-only"), group_size=group)
    return quantize(FloatGraph(model, None, progress=Silent()), recipe, progress=Silent())


@pytest.fixture(scope="module")
def words() -> Words:
    torch.manual_seed(7)
    return Words().eval()


@pytest.mark.parametrize(("bits", "least_db", "largest"), [(8, 35, 0.30), (4, 15, 0.20)])
def test_the_files_shrink_with_the_bits_and_agree(
    words: Words, bits: int, least_db: float, largest: float, tmp_path: Path
) -> None:
    given = ids(8)
    program = few_bits(words, given, bits)
    wanted = reference(words, given)
    floats = 4 * sum(tensor.numel() for tensor in words.parameters())
    found = {}
    for form in ("pte", "onnx"):
        coverage, runtime = lowered(program, form, tmp_path, target="rpi5")
        found[form] = outputs(runtime, given)
        assert sqnr_db(wanted, found[form]) > least_db
        assert (tmp_path / f"small.{form}").stat().st_size < largest * floats
        assert coverage.int8_mac_share == 1.0
    assert sqnr_db(found["pte"], found["onnx"]) > 35
    assert sqnr_db(reference(program.program.module(), given), found["pte"]) > 40


def test_an_onnx_holds_the_integers_and_scales_of_the_one_graph(words: Words, tmp_path: Path) -> None:
    given = ids(1)
    program = few_bits(words, given, 4)
    lowered(program, "onnx", tmp_path, target="rpi5")

    model = onnx.load(tmp_path / "small.onnx")
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    bits = [next(a.i for a in node.attribute if a.name == "bits") for node in products]
    assert bits == [4, 4, 8]
    with torch.no_grad():
        for node, layer in zip(products[:2], (words.up, words.across), strict=True):
            expected = int4_by_group(layer.weight, 32)
            packed = arrays[node.input[1]]
            integers = np.stack([packed & 15, packed >> 4], -1).reshape(layer.weight.shape).astype(np.int8) - 8
            np.testing.assert_array_equal(integers, expected.integers.numpy())
            np.testing.assert_array_equal(arrays[node.input[2]], expected.scales.numpy())
        last = int8_by_channel(words.head.weight)
        packed, scales = (arrays[name] for name in products[2].input[1:3])
        np.testing.assert_array_equal(packed.reshape(5, -1)[:, :300].astype(np.int16) - 128, last.integers.numpy())
        assert (scales == last.scales.numpy()[:, None]).all()


def test_without_dot_products_8_bits_are_multiplied_as_integers_and_4_bits_are_listed_as_float(tmp_path: Path) -> None:
    torch.manual_seed(7)
    layer = nn.Linear(64, 16)
    given = samples((1, 64))
    for bits, operator, share in ((8, "MatMulInteger", 1.0), (4, "MatMulNBits", 0.0)):
        coverage, runtime = lowered(few_bits(layer, given, bits), "onnx", tmp_path, target="rpi4")
        assert operator in coverage.requires.ops
        assert coverage.int8_mac_share == share
        assert [row.op for row in coverage.undelegated] == ([] if share else [operator])
        assert sqnr_db(reference(layer, given), outputs(runtime, given)) > 15


def test_a_table_is_read_from_int8_in_both_files(tmp_path: Path) -> None:
    torch.manual_seed(7)
    table = nn.Embedding(5000, 16)
    given = [(torch.tensor([[0, 4999, 7]]),)]
    program = few_bits(table, given, 4)
    for form in ("pte", "onnx"):
        _, runtime = lowered(program, form, tmp_path)
        found = runtime.run((given[0][0].numpy(),))[0]
        expected = int8_by_channel(table.weight.detach()).rounded[given[0][0]]
        np.testing.assert_array_equal(found, expected.numpy())
        assert (tmp_path / f"small.{form}").stat().st_size < 5000 * (16 + 4) + 5000


def test_a_group_that_does_not_fit_becomes_the_largest_that_does(tmp_path: Path) -> None:
    torch.manual_seed(7)
    layer = nn.Linear(192, 16)
    given = samples((1, 192))
    program = few_bits(layer, given, 4, group=128)

    scales = [t for t in program.program.state_dict.values() if t.dtype == torch.float32 and tuple(t.shape) == (16, 2)]
    assert len(scales) == 1  # two groups of 96
    found = [outputs(lowered(program, form, tmp_path)[1], given) for form in ("pte", "onnx")]
    assert sqnr_db(*found) > 35


@pytest.mark.parametrize(
    ("bits", "notes"),
    [
        (4, ("int4-weight-only: int8 in place of int4, as the inputs are no multiple of 32: head (300 inputs)",)),
        (8, ()),
    ],
)
def test_a_layer_that_cannot_be_int4_is_named(words: Words, bits: int, notes: tuple[str, ...]) -> None:
    assert few_bits(words, ids(1), bits).notes == notes


def test_int4_ranges_leave_no_more_error_than_the_largest_value_would() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(64, 128, generator=generator) ** 3
    ours = int4_by_group(weight, 32)

    groups = weight.reshape(64, -1, 32)
    plain = groups.abs().amax(2, keepdim=True) / 7
    theirs = torch.clamp(torch.round(groups / plain), -8, 7) * plain
    assert (ours.rounded - weight).square().sum() < 0.9 * (theirs.reshape(64, -1) - weight).square().sum()
    assert torch.equal(ours.scales, ours.scales.to(torch.bfloat16).to(torch.float32))


def test_a_rounded_int8_weight_tells_its_integers_and_scales_exactly() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(500, 40, generator=generator) * torch.logspace(-20, 20, 500)[:, None]
    found = int8_by_channel(weight)

    scales = found.rounded.abs().amax(1) / 127
    assert torch.equal(scales, found.scales)
    assert torch.equal(torch.round(found.rounded / scales[:, None]).to(torch.int8), found.integers)


@pytest.mark.parametrize("group", [0, 16, 48])
def test_a_group_that_no_kernel_takes_is_refused(group: int) -> None:
    with pytest.raises(RecipeError, match=f"group_size is {group}"):
        few_bits(nn.Linear(96, 4), samples((1, 96)), 4, group=group)


def test_convolutions_stay_float_and_are_listed(tmp_path: Path) -> None:
    torch.manual_seed(7)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 5))
    program = few_bits(module, samples((1, 3, 8, 8)), 4)
    for form, operator in (("pte", "aten.convolution.default"), ("onnx", "Conv")):
        coverage, _ = lowered(program, form, tmp_path, target="rpi5")
        assert [row.op for row in coverage.undelegated] == [operator]
        assert coverage.int8_mac_share == pytest.approx(1 - coverage.undelegated[0].mac_share)
