"""Why nodes are left out: models with one known pattern each, whose every reason is known beforehand."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import torch
from quantize_models import IMAGE, dataset, lowered, quantized, samples, settled
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from edgeq.errors import LoweringError
from edgeq.model import Model
from edgeq.progress import Silent
from edgeq.quantize import FloatGraph, quantize
from edgeq.quantize.source import place_of
from edgeq.recipe import named
from edgeq.stages.explain.nodes import operator

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.records import Nodes


class Between(nn.Module):
    """A pattern between two int8 convolutions, which have nothing to answer for."""

    def __init__(self, pattern: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pattern = pattern

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = self.pattern(x)
        return self.last(x)


LINE = inspect.getsourcelines(Between.forward)[1] + 2
"""Where the pattern is called: torch.export keeps the lines of forward methods alone."""


@dataclass(frozen=True)
class Seed:
    """A pattern, and for each format all (operator, code) that a node of it may have, and does."""

    pattern: Callable[[torch.Tensor], torch.Tensor]
    pte: set[tuple[str, str]] = field(default_factory=set)
    onnx: set[tuple[str, str]] = field(default_factory=set)


def _no_kernel(*operators: str) -> set[tuple[str, str]]:
    return {(name, "no-kernel") for name in operators}


def _dtype(*operators: str) -> set[tuple[str, str]]:
    return {(name, "dtype") for name in operators}


INDEXING = {*_no_kernel("arange", "index"), *_dtype("abs", "sub")}
CONVERTED = _dtype("to_dim_order")
BINARY = {("Mul", "float-operands")}

SEEDS = {
    "an error function": Seed(
        torch.erf, _no_kernel("erf"), {("Erf", "float-kernel")}
    ),
    "a running sum": Seed(
        lambda x: torch.cumsum(x, 1), _no_kernel("cumsum"), {("CumSum", "float-kernel")}
    ),
    "a roll": Seed(
        lambda x: torch.roll(x, 1, 2), {*_no_kernel("arange", "fmod", "index_select"), *_dtype("add")}, set()
    ),
    "the largest few": Seed(
        lambda x: torch.topk(x, 8, 1)[0], _no_kernel("topk"), {("TopK", "float-kernel")}
    ),
    "a softmax on channels": Seed(
        lambda x: torch.softmax(x, 1), {("softmax", "constraint")}, set()
    ),
    "a softmax on rows": Seed(
        lambda x: torch.softmax(x, -1), {("softmax", "float-kernel")}, set()
    ),
    "the largest of a batch": Seed(
        lambda x: x * torch.amax(x, 0, keepdim=True),
        {*_no_kernel("amax"), ("mul", "float-operands")}, {("ReduceMax", "float-kernel"), *BINARY},
    ),
    "the largest with its place": Seed(
        lambda x: x * x.max(1, keepdim=True)[0],
        {("max", "constraint"), ("mul", "float-operands")}, {("ReduceMax", "float-kernel"), *BINARY},
    ),
    "a place as a number": Seed(
        lambda x: x + x.argmax(1, keepdim=True).float(),
        {*_no_kernel("argmax"), *CONVERTED, ("add", "float-operands")}, {("Add", "float-operands")},
    ),
    "whole numbers": Seed(
        lambda x: x * (x.shape[1] + torch.arange(8)).view(1, 8, 1, 1).float(),
        {*_no_kernel("arange"), *_dtype("add", "view"), *CONVERTED, ("mul", "float-operands")}, BINARY,
    ),
    "double precision": Seed(
        lambda x: (x.double() * 2).float(), {*CONVERTED, *_dtype("mul")}, BINARY
    ),
    "a reflecting padding": Seed(
        lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), INDEXING, set()
    ),
    "a padding with ones": Seed(
        lambda x: F.pad(x, (1, 1, 1, 1), value=1.0), set(), set()
    ),
    "means that reach over the edge": Seed(
        lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True), {("avg_pool2d", "constraint")}, set()
    ),
    "means that count zeros": Seed(
        lambda x: F.avg_pool2d(x, 3, 1, 1), {("avg_pool2d", "constraint")}, set()
    ),
    "largest that reach over the edge": Seed(
        lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), set(), set()
    ),
    "a dilated pooling": Seed(
        lambda x: F.max_pool2d(x, 2, 1, dilation=2), set(), set()
    ),
    "a pooling with gaps": Seed(
        lambda x: F.max_pool2d(x, 1, 2), {("max_pool2d_with_indices", "constraint")}, set()
    ),
    "an enlargement to the nearest": Seed(
        lambda x: F.interpolate(x, scale_factor=2), _no_kernel("upsample_nearest2d"), set()
    ),
    "a layer norm": Seed(
        lambda x: F.layer_norm(x, (16,)), _no_kernel("native_layer_norm"), {("LayerNormalization", "float-kernel")}
    ),
    "a group norm": Seed(
        lambda x: F.group_norm(x, 2), _no_kernel("native_group_norm"),
        {("InstanceNormalization", "float-kernel"), *BINARY, ("Add", "float-operands")},
    ),
    "a product of two tensors": Seed(
        lambda x: x @ x.transpose(-1, -2), {("bmm", "float-kernel")}, set()
    ),
    "a softplus": Seed(
        F.softplus, {*_no_kernel("gt", "log1p", "where"), ("exp", "float-kernel")},
        {("Softplus", "float-kernel"), ("Where", "no-common-kernel")},
    ),
    "a third power": Seed(
        lambda x: x.pow(3), {("pow", "constraint")}, {("Pow", "float-kernel")}
    ),
    "every second value": Seed(
        lambda x: x[:, :, ::2, ::2], {("slice", "constraint")}, set()
    ),
    "a difference": Seed(
        lambda x: x - torch.sigmoid(x), {("sub", "no-common-kernel"), ("sigmoid", "float-operands")},
        {("Sub", "float-kernel"), ("Sigmoid", "float-operands")},
    ),
    "a logarithm of a softmax": Seed(
        lambda x: F.log_softmax(x, 1), _no_kernel("log_softmax"), {("LogSoftmax", "float-kernel")}
    ),
    "as many values as there are": Seed(
        lambda x: x * torch.abs(x[x > 0]).sum(),
        {*_no_kernel("gt", "index", "sum"), ("abs", "dynamic-shape"), ("mul", "float-operands")},
        {("Abs", "float-kernel"), ("ReduceSum", "float-kernel"), *BINARY},
    ),
    "an activation behind another": Seed(
        lambda x: torch.relu(torch.sigmoid(x)), set(), set()
    ),
}  # fmt: skip


def _told(nodes: Nodes) -> set[tuple[str, str]]:
    return {(operator(node.op), node.code) for node in nodes.nodes if node.code}


def _nodes(module: nn.Module, form: str, folder: Path, recipe: str = "int8-static") -> Nodes:
    torch.manual_seed(0)
    coverage, _ = lowered(quantized(settled(module), samples(IMAGE, count=2), recipe), form, folder)
    return coverage.nodes


@pytest.mark.parametrize("form", ["pte", "onnx"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_reason_is_that_of_its_node_and_no_other_node_has_one(seed: str, form: str, tmp_path: Path) -> None:
    given = SEEDS[seed]
    nodes = _nodes(Between(given.pattern), form, tmp_path)

    assert _told(nodes) == getattr(given, form)
    for node in nodes.nodes:
        assert bool(node.code) == bool(node.reason), node
        assert node.delegated or node.code, node
        if node.code:
            assert place_of(node.source) == f"test_left_out.py:{LINE}", node
    convolutions = [node for node in nodes.nodes if node.module in ("first", "last") and node.macs]
    assert [(node.runs, node.code) for node in convolutions] == [("int8", ""), ("int8", "")]


REFUSED = {
    "sorted values": (lambda x: x.sort(dim=-1)[0], "no kernel for aten::sort"),
    "a convolution in 3-D": (lambda x: F.conv3d(x[:, None], torch.ones(1, 1, 1, 1, 1))[:, 0], "kernel for aten::conv"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_executorch_refuses_is_named_with_its_line_and_the_format_that_takes_it(case: str, tmp_path: Path) -> None:
    pattern, reason = REFUSED[case]
    with pytest.raises(LoweringError, match=reason) as caught:
        _nodes(Between(pattern), "pte", tmp_path)
    assert f"test_left_out.py:{LINE}" in caught.value.hint
    assert "--format onnx alone" in caught.value.hint


class Three(nn.Module):
    def __init__(self, activation: Callable[[torch.Tensor], torch.Tensor] = torch.relu) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.activation(self.middle(self.first(x))))


def _careful(module: nn.Module, form: str, folder: Path) -> Nodes:
    """The nodes of a model whose layers called middle stay float."""
    torch.manual_seed(0)
    given = samples(IMAGE, count=2)
    model = Model(name="small", module=module.eval(), example_inputs=given[0])
    recipe = replace(named("int8-static"), name="careful", keep_float=("mid*",))
    program = quantize(FloatGraph(model, dataset(given), progress=Silent()), recipe, progress=Silent())
    return lowered(program, form, folder)[0].nodes


@pytest.mark.parametrize("form", ["pte", "onnx"])
def test_a_layer_that_the_recipe_keeps_float_is_told_apart_from_what_is_float_beside_it(
    form: str, tmp_path: Path
) -> None:
    told = {
        node.module or operator(node.op).lower(): node for node in _careful(Three(torch.tanh), form, tmp_path).nodes
    }
    assert {name: node.code for name, node in told.items()} == {
        "first": "", "middle": "excluded-by-recipe", "tanh": "float-operands", "last": "",
    }  # fmt: skip
    assert told["middle"].reason == "careful keeps 'mid*' in float"
    assert "keep_float" in told["middle"].rewrite
    assert "(middle test_left_out.py:" in told["tanh"].reason


def test_onnx_runtime_does_not_round_a_layer_that_the_recipe_keeps_in_float(tmp_path: Path) -> None:
    nodes = _careful(Three(torch.relu), "onnx", tmp_path)
    assert {node.module: node.kernel for node in nodes.nodes if node.macs} == {
        "first": "QLinearConv", "middle": "Conv", "last": "QLinearConv",
    }  # fmt: skip
    assert [move.node for move in nodes.movements if move.kind == "copy"] == ["node_conv2d_1_in_float"]


class Grouped(nn.Module):
    """Layers that a recipe with ranges taken at run time cannot have, and one that it can."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.depthwise = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8)
        self.up = nn.ConvTranspose2d(8, 8, 3, stride=2, output_padding=1, groups=2, dilation=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.up(self.depthwise(self.plain(x))))


@pytest.mark.parametrize("form", ["pte", "onnx"])
def test_what_a_dynamic_recipe_does_not_take_is_excluded_by_the_recipe(form: str, tmp_path: Path) -> None:
    nodes = _nodes(Grouped(), form, tmp_path, "int8-dynamic")
    layers = {node.module: (node.runs, node.code) for node in nodes.nodes if node.macs}
    assert layers == {
        "plain": ("int8", ""),
        "depthwise": ("float", "excluded-by-recipe"),
        "up": ("float", "excluded-by-recipe"),
    }
    assert ("tanh", "excluded-by-recipe") in {(name.lower(), code) for name, code in _told(nodes)}


def test_an_odd_transposed_convolution_is_int8_in_one_runtime_and_unfused_in_the_other(tmp_path: Path) -> None:
    pte, onnx = (_nodes(Grouped(), form, tmp_path) for form in ("pte", "onnx"))
    assert {node.module: (node.runs, node.code) for node in pte.nodes if node.macs}["up"] == ("int8", "")
    up = next(node for node in onnx.nodes if node.module == "up")
    assert (up.op, up.runs, up.code, up.delegated) == ("ConvTranspose", "float", "unfused", False)


@pytest.mark.parametrize("form", ["pte", "onnx"])
def test_in_a_float_file_only_what_is_not_accelerated_has_a_reason(form: str, tmp_path: Path) -> None:
    nodes = _nodes(Between(torch.erf), form, tmp_path, "fp32")
    assert _told(nodes) == ({("erf", "no-kernel")} if form == "pte" else set())
    assert {node.runs for node in nodes.nodes} == {"float"}


def test_partitions_say_what_they_hold_and_what_is_moved_at_their_edges(tmp_path: Path) -> None:
    nodes = _nodes(Between(torch.erf), "pte", tmp_path)

    assert [one.operators for one in nodes.partitions] == [{"convolution": 1}, {"convolution": 1}]
    image, wide = 3 * 16 * 16, 8 * 16 * 16
    assert [(one.bytes_in, one.bytes_out) for one in nodes.partitions] == [(4 * image, 4 * wide), (4 * wide, 4 * wide)]
    assert sum(one.mac_share for one in nodes.partitions) == pytest.approx(1.0)
    moved = [(one.kind, one.partition, one.bytes) for one in nodes.movements]
    assert moved == [
        ("quantize", 0, 5 * image), ("transpose", 0, 2 * image),
        ("transpose", 0, 2 * wide), ("dequantize", 0, 5 * wide),
        ("quantize", 1, 5 * wide), ("transpose", 1, 2 * wide),
        ("transpose", 1, 2 * wide), ("dequantize", 1, 5 * wide),
    ]  # fmt: skip
    assert all(one.inserted for one in nodes.movements)
    assert nodes.movements[1].at.startswith("in front of convolution (first test_left_out.py:")
    assert nodes.movements[2].at.startswith("behind convolution (first test_left_out.py:")


def test_copies_outside_of_all_partitions_are_counted_and_views_are_free(tmp_path: Path) -> None:
    rolled = _nodes(Between(lambda x: x.flip(-1)), "pte", tmp_path)
    outside = [one for one in rolled.movements if one.partition is None]
    assert [(one.kind, one.bytes, one.inserted) for one in outside] == [("copy", 2 * 4 * 8 * 16 * 16, False)]
    counted = _nodes(Between(SEEDS["whole numbers"].pattern), "pte", tmp_path)
    views = [one for one in counted.movements if "view" in one.node]
    assert [one.bytes for one in views] == [0]


def test_conversions_that_onnx_runtime_did_not_fuse_ran_and_are_counted(tmp_path: Path) -> None:
    fused, unfused = (_nodes(Between(pattern), "onnx", tmp_path) for pattern in (torch.relu, torch.erf))

    def conversions(nodes: Nodes) -> list[tuple[str, int]]:
        return [(one.kind, one.bytes) for one in nodes.movements if one.kind in ("quantize", "dequantize")]

    image, wide = 3 * 16 * 16, 8 * 16 * 16
    ends = [("quantize", 5 * image), ("dequantize", 5 * wide)]
    assert conversions(fused) == ends
    assert conversions(unfused) == [ends[0], ("dequantize", 5 * wide), ("quantize", 5 * wide), ends[1]]
    assert {node.kernel for node in fused.nodes} == {"QLinearConv"}
    assert any("in front of Erf" in one.at for one in unfused.movements)


def test_a_file_for_another_processor_says_what_was_assumed_of_it(tmp_path: Path) -> None:
    program = quantized(Three().eval(), samples(IMAGE, count=2))
    arm, _ = lowered(program, "onnx", tmp_path, "rpi4")
    x86, _ = lowered(program, "onnx", tmp_path, "host")
    machine = platform.machine()
    assert bool(arm.nodes.notes) == (machine != "aarch64")
    assert bool(x86.nodes.notes) == (machine != "x86_64")
    assert all(machine in note for note in (*arm.nodes.notes, *x86.nodes.notes))


def test_a_recurrent_layer_is_float_by_the_recipe_and_not_for_its_weights(tmp_path: Path) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(6, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layer(x)[0][:, -1])

    torch.manual_seed(0)
    nodes = lowered(quantized(Last().eval(), samples((1, 5, 6))), "pte", tmp_path)[0].nodes
    inside = [node for node in nodes.nodes if node.module == "layer" and node.runs == "float"]
    assert {(node.code, node.reason) for node in inside} == {
        ("excluded-by-recipe", "int8-static leaves recurrent layers in float")
    }
    assert any(node.macs for node in inside)
