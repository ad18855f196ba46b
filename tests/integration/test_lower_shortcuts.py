"""Lowering with and without the shortcuts: the same bytes, the same coverage, the same refusals."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import pytest
import torch
from quantize_models import IMAGE, quantized, samples, settled
from torch import nn
from torch.export import ExportedProgram
from torch.fx.traceback import NodeSource

from edgeq.errors import LoweringError
from edgeq.lower import lower
from edgeq.lower.retracing import Retracing
from edgeq.lower.shortcuts import shortcuts
from edgeq.quiet import quietly
from edgeq.target import load_target

with quietly():
    from executorch.exir.pass_base import ExportPass, _ExportPassBase
    from executorch.exir.passes.scalar_to_tensor_pass import ScalarToTensorPass

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.lower import Coverage
    from edgeq.quantize import QuantizedProgram


class Convolutions(nn.Module):
    """What the passes of XNNPACK fold, fuse, split and reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(2))
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish(), nn.PReLU(8))
        self.alone = nn.BatchNorm2d(8)
        self.row = nn.Conv1d(8, 6, 3)
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        parts = torch.cat([x, self.alone(x), self.branch(x), x * 2, x + 1, torch.sigmoid(x)], 1)
        x = nn.functional.interpolate(parts[:, 4:12], scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(torch.relu(self.row(x.mean(2))).mean(2))


class Attention(nn.Module):
    """Attention with a mask: the pattern that a pass of XNNPACK looks for; a matrix product with a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.register_buffer("mask", torch.full((6, 6), -1.0).triu(1))
        self.weight = nn.Parameter(torch.randn(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(self.norm(x)).view(1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return (x + attended.transpose(1, 2).reshape(1, 6, 8)) @ self.weight


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0][:, -1]


MODELS = {
    "convolutions": (Convolutions, IMAGE),
    "attention": (Attention, (1, 6, 8)),
    "recurrent": (Recurrent, (1, 3, 4)),
}
RECIPES = ("fp32", "int8-static", "int8-dynamic", "int8-weight-only", "int4-weight-only")


def program_of(name: str, recipe: str) -> QuantizedProgram:
    torch.manual_seed(7)
    cls, shape = MODELS[name]
    return quantized(settled(cls()), samples(shape, count=3), recipe)


def pretend_another_release(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(importlib.metadata, "version", lambda _: "0.0.1")


def file_and_coverage(program: QuantizedProgram, folder: Path) -> tuple[bytes, Coverage]:
    path = folder / "model.pte"
    coverage = lower(program, "pte", load_target("rpi4"), path)
    return path.read_bytes(), coverage


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", MODELS)
def test_shortcuts_change_no_byte_and_no_number(
    name: str, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_of(name, recipe)
    fast = file_and_coverage(program, tmp_path)

    monkeypatch.setattr("edgeq.lower.shortcuts.are_known_to_hold", lambda: False)
    assert fast == file_and_coverage(program, tmp_path)


def test_an_operator_that_executorch_does_not_know_is_named_with_shortcuts_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unknown(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.i1e(x)

    program = quantized(Unknown().eval(), samples((1, 4)), "fp32")
    said = []
    for known in (True, False):
        monkeypatch.setattr("edgeq.lower.shortcuts.are_known_to_hold", lambda known=known: known)
        with pytest.raises(LoweringError) as refused:
            lower(program, "pte", load_target("rpi4"), tmp_path / "model.pte")
        said.append(str(refused.value))

    assert said[0] == said[1]
    assert "i1e" in said[0]


def test_other_releases_of_the_libraries_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (ExportedProgram.run_decompositions, _ExportPassBase.call, hasattr(NodeSource, "__deepcopy__"))
    pretend_another_release(monkeypatch)

    with shortcuts():
        inside = (ExportedProgram.run_decompositions, _ExportPassBase.call, hasattr(NodeSource, "__deepcopy__"))

    assert inside == before


def test_the_libraries_are_as_before_after_an_error_too() -> None:
    before = (ExportedProgram.run_decompositions, _ExportPassBase.call, hasattr(NodeSource, "__deepcopy__"))

    with pytest.raises(ZeroDivisionError), shortcuts():
        assert _ExportPassBase.call is not before[1]
        raise ZeroDivisionError

    assert before == (ExportedProgram.run_decompositions, _ExportPassBase.call, hasattr(NodeSource, "__deepcopy__"))


class Plus(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) + 1


class Counting(ExportPass):
    """A pass that the shortcuts do not know and that keeps something of what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def call_operator(self, op: object, args: object, kwargs: object, meta: object) -> object:
        self.asked += 1
        return super().call_operator(op, args, kwargs, meta)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))


def traced_by(retracing: Retracing, module: nn.Module | None = None) -> torch.fx.GraphModule:
    with quietly():
        graph_module = torch.export.export(module or Plus(), (torch.ones(2),)).run_decompositions({}).graph_module
    return retracing.call(ExportPass(), graph_module).graph_module


def test_a_graph_that_did_not_change_is_not_traced_again() -> None:
    retracing = Retracing(_ExportPassBase.call)
    traced = traced_by(retracing)

    assert retracing.call(ExportPass(), traced).graph_module is traced


def test_a_graph_that_did_change_is_traced_again() -> None:
    retracing = Retracing(_ExportPassBase.call)
    traced = traced_by(retracing)
    relu = next(node for node in traced.graph.nodes if node.target == torch.ops.aten.relu.default)
    relu.target = torch.ops.aten.sigmoid.default

    assert retracing.call(ExportPass(), traced).graph_module is not traced


def test_a_value_that_did_change_is_traced_again() -> None:
    retracing = Retracing(_ExportPassBase.call)
    traced = traced_by(retracing)
    next(node for node in traced.graph.nodes if node.op == "call_function").meta["val"] = torch.zeros(3)

    assert retracing.call(ExportPass(), traced).graph_module is not traced


def test_a_known_pass_that_has_something_to_do_does_it() -> None:
    retracing = Retracing(_ExportPassBase.call)
    traced = traced_by(retracing)

    result = retracing.call(ScalarToTensorPass(), traced).graph_module

    assert result is not traced
    assert any("_tensor_constant" in str(node.target) for node in result.graph.nodes)


def test_a_known_pass_that_has_nothing_to_do_is_not_traced() -> None:
    retracing = Retracing(_ExportPassBase.call)
    traced = traced_by(retracing, nn.ReLU())

    assert retracing.call(ScalarToTensorPass(), traced).graph_module is traced


def test_an_unknown_pass_traces_and_is_asked_once_for_each_operator() -> None:
    retracing = Retracing(_ExportPassBase.call)
    traced = traced_by(retracing)
    counting = Counting()

    assert retracing.call(counting, traced).graph_module is not traced
    assert counting.asked == 2


def test_a_graph_with_branches_is_always_traced() -> None:
    retracing = Retracing(_ExportPassBase.call)
    traced = traced_by(retracing, Branching())

    assert retracing.call(ExportPass(), traced).graph_module is not traced
