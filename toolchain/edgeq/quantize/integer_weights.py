"""Layers whose weights are integers in the file and whose activations are quantized while the model runs.

Both dynamic and weight-only recipes come to this graph: in front of each
such layer its input is quantized with a range taken there and then, and its
weight is read from integers. ExecuTorch's XNNPACK partitions know no other
form of a layer with integer weights and float activations. The graph can be
run as it is and gives what the ``.pte`` gives.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed

from edgeq.quantize.attributes import constant, is_constant, new_constant
from edgeq.quantize.plan import LAYERS
from edgeq.quantize.rewrite.editing import call, replace
from edgeq.quantize.scheme import SMALLEST_SCALE, WEIGHT_LIMIT
from edgeq.quantize.selection import names_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import GraphModule, Node

    from edgeq.recipe import Recipe

_ATEN = torch.ops.aten
_DECOMPOSED = torch.ops.quantized_decomposed

INT4_LOWEST, INT4_HIGHEST = -8, 7
_SHRINKS = 16
"""How many clipped ranges are tried for a group of int4 weights, down to half of the whole."""


@dataclass(frozen=True, kw_only=True)
class IntegerWeight:
    """A weight of shape (outputs, ...) as ``integers * scale``.

    ``integers`` are int8 in the weight's own shape; ``scales`` are float32
    of shape (outputs,), or (outputs, groups) where the integers are int4
    and each group of consecutive inputs has its own.
    """

    integers: torch.Tensor
    scales: torch.Tensor

    @property
    def grouped(self) -> bool:
        """Whether it is int4 in groups."""
        return self.scales.dim() > 1

    @property
    def rounded(self) -> torch.Tensor:
        """The weight as its integers stand for it."""
        outputs = len(self.integers)
        return (self.integers.reshape(*self.scales.shape, -1) * self.scales[..., None]).reshape(outputs, -1)


def int8_by_channel(weight: torch.Tensor) -> IntegerWeight:
    """Symmetric int8: the largest magnitude of each output over 127.

    A scale has 16 significant bits, so that its product with an integer is
    exact in float32: who sees the rounded weight alone can tell both.
    """
    rows = weight.flatten(1)
    wanted = torch.clamp(rows.abs().amax(1) / WEIGHT_LIMIT, min=SMALLEST_SCALE)
    scales = ((wanted.view(torch.int32) + 0x80) & ~0xFF).view(torch.float32)
    integers = torch.clamp(torch.round(rows / scales[:, None]), -WEIGHT_LIMIT, WEIGHT_LIMIT)
    return IntegerWeight(integers=integers.to(torch.int8).reshape(weight.shape), scales=scales)


def int4_by_group(weight: torch.Tensor, group_size: int) -> IntegerWeight:
    """Symmetric int4, -8 to 7, of a matrix (outputs, inputs) whose inputs are a multiple of ``group_size``.

    Each group takes the range, out of 16 between half of its own and the
    whole, that leaves the least squared error. Scales are bfloat16 numbers,
    as XNNPACK stores nothing wider, so that every runtime computes with the
    same ones.
    """
    groups = weight.reshape(weight.shape[0], -1, group_size)
    lowest, highest = -groups.amin(2) / -INT4_LOWEST, groups.amax(2) / INT4_HIGHEST
    whole = torch.clamp(torch.maximum(lowest, highest), min=SMALLEST_SCALE)
    best = torch.full_like(whole, torch.inf)
    scales = torch.zeros_like(whole)
    for step in range(_SHRINKS):
        candidate = (whole * (1.0 - 0.5 * step / _SHRINKS)).to(torch.bfloat16).to(torch.float32)
        error = (_int4(groups, candidate) * candidate[..., None] - groups).square().sum(2)
        scales = torch.where(error < best, candidate, scales)
        best = torch.minimum(error, best)
    return IntegerWeight(integers=_int4(groups, scales).to(torch.int8).reshape(weight.shape), scales=scales)


def _int4(groups: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return torch.clamp(torch.round(groups / scales[..., None]), INT4_LOWEST, INT4_HIGHEST)


def layers_of(graph: GraphModule, recipe: Recipe) -> list[Node]:
    """The layers with constant float32 weights that read another tensor, without those that the recipe keeps float."""
    layers = [node for node in graph.graph.nodes if node.target in LAYERS and _is_constant_layer(node)]
    return [layer for layer in layers if not stays_float(layer, recipe)]


def stays_float(layer: Node, recipe: Recipe) -> bool:
    """Whether a pattern of ``recipe.keep_float`` matches the layer."""
    return any(fnmatchcase(name, pattern) for name in names_of(layer) for pattern in recipe.keep_float)


def _is_constant_layer(node: Node) -> bool:
    source, weight, *others = node.args
    bias = others[0] if others else None
    if is_constant(source) or not is_constant(weight) or not (bias is None or is_constant(bias)):
        return False
    return bool(node.meta["val"].dtype == torch.float32 and node.meta["val"].numel() > 0)


def store_tables_as_int8(graph: GraphModule, recipe: Recipe) -> None:
    """Store embedding tables, most of a small language model, as int8 with a scale for each row.

    Only the rows that are looked up become float; what is computed with
    them is float as before.
    """
    for node in list(graph.graph.nodes):
        if node.target != _ATEN.embedding.default or not is_constant(node.args[0]) or stays_float(node, recipe):
            continue
        table = int8_by_channel(constant(graph, node.args[0]))
        stored = (new_constant(graph, node, value) for value in (table.integers, table.scales[:, None]))
        integers, scales = (call(graph, node, _ATEN.embedding.default, one, node.args[1]) for one in stored)
        floats = call(graph, node, _ATEN.to.dtype, integers, torch.float32)
        replace(node, call(graph, node, _ATEN.mul.Tensor, floats, scales))


def use_integer_weights(
    graph: GraphModule, layers: list[Node], rounding: Callable[[torch.Tensor], IntegerWeight]
) -> None:
    """Give each of ``layers`` the weight that ``rounding`` makes of its own, and an input quantized at run time.

    A weight that several layers read, such as the steps of a recurrent
    layer, is stored once.
    """
    read: dict[str, tuple[Node, ...]] = {}
    for layer in layers:
        source, weight = layer.args[:2]
        name = str(weight.target)  # type: ignore[union-attr]  # a layer reads a constant weight
        if name not in read:
            read[name] = _stored(graph, layer, rounding(constant(graph, weight)))  # type: ignore[arg-type]  # the same
        layer.args = (_at_run_time(graph, layer, source), _dequantized(graph, layer, *read[name]), *layer.args[2:])  # type: ignore[arg-type]  # the same
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()


def _stored(graph: GraphModule, layer: Node, weight: IntegerWeight) -> tuple[Node, ...]:
    """Integers, scales and zero points as constants of the graph."""
    zero_points = torch.zeros(weight.scales.shape, dtype=torch.int32 if weight.grouped else torch.int64)
    return tuple(new_constant(graph, layer, value) for value in (weight.integers, weight.scales, zero_points))


def _dequantized(graph: GraphModule, layer: Node, integers: Node, scales: Node, zero_points: Node) -> Node:
    shape = scales.meta["val"].shape
    if len(shape) == 1:
        target = _DECOMPOSED.dequantize_per_channel.default
        limits = (-WEIGHT_LIMIT, WEIGHT_LIMIT)
        return call(graph, layer, target, integers, scales, zero_points, 0, *limits, torch.int8)
    group_size = integers.meta["val"].shape[1] // shape[1]
    target = _DECOMPOSED.dequantize_per_channel_group.default
    limits = (INT4_LOWEST, INT4_HIGHEST)
    return call(graph, layer, target, integers, scales, zero_points, *limits, torch.int8, group_size, torch.float32)


def _at_run_time(graph: GraphModule, layer: Node, source: Node) -> Node:
    """``source`` as int8 with its own range: that of each row for a linear layer, of the whole for a convolution.

    Layers that read the same tensor each quantize it for themselves:
    XNNPACK's partitions do not share a tensor quantized at run time.
    """
    ends = (-128, 127)
    if layer.target == _ATEN.linear.default:
        chosen = call(graph, layer, _DECOMPOSED.choose_qparams_per_token_asymmetric.default, source, torch.int8)
        numbers = [call(graph, layer, operator.getitem, chosen, index) for index in range(2)]
        stored = call(graph, layer, _DECOMPOSED.quantize_per_token.default, source, *numbers, *ends, torch.int8)
        target = _DECOMPOSED.dequantize_per_token.default
        return call(graph, layer, target, stored, *numbers, *ends, torch.int8, torch.float32)
    smallest = torch.finfo(torch.float32).eps
    chosen = call(graph, layer, _DECOMPOSED.choose_qparams.tensor, source, *ends, smallest, torch.int8)
    numbers = [call(graph, layer, operator.getitem, chosen, index) for index in range(2)]
    stored = call(graph, layer, _DECOMPOSED.quantize_per_tensor.tensor, source, *numbers, *ends, torch.int8)
    return call(graph, layer, _DECOMPOSED.dequantize_per_tensor.tensor, stored, *numbers, *ends, torch.int8)
