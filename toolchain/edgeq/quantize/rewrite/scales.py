"""Products and sums with constants that the layer before them can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.fx import Node

from edgeq.quantize.attributes import is_constant, new_constant
from edgeq.quantize.rewrite.batch_norm import OUTPUT_CHANNEL_AXIS
from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from torch.fx import GraphModule

_ATEN = torch.ops.aten
_TARGETS = (_ATEN.mul.Tensor, _ATEN.div.Tensor, _ATEN.add.Tensor, _ATEN.sub.Tensor)


def fold_scales(graph: GraphModule) -> None:
    """Take ``* factor``, ``/ factor``, ``+ shift`` and ``- shift`` into the layer that alone they read.

    The constant is a number or has one value for each output channel, as
    the layer scale of a ConvNeXt and the ``x / 6 + 1 / 2`` of a
    hard-sigmoid. Weight and bias become products and sums of constants,
    for :func:`edgeq.quantize.rewrite.constants.fold_constants` to compute.

    Before: weights are read from the module, as they are trained. After:
    what alone reads a layer is no product or sum with a constant that fits
    its channels; weights may be computed.
    """
    for node in list(graph.graph.nodes):
        found = _layer_and_operand(node)
        if found is not None:
            _fold(graph, node, *found)


def _fold(graph: GraphModule, node: Node, layer: Node, operand: Node | float) -> None:
    weight, bias = (*layer.args[1:3], None)[:2]
    assert isinstance(weight, Node)  # noqa: S101  # a layer reads it
    if node.target in (_ATEN.mul.Tensor, _ATEN.div.Tensor):
        shape = [1] * weight.meta["val"].dim()
        shape[_axis(layer)] = -1
        weight = call(graph, layer, node.target, weight, _shaped(graph, layer, operand, shape))
    elif bias is None:
        bias = new_constant(graph, layer, torch.zeros(_channels(layer)))
    if bias is not None:
        bias = call(graph, layer, node.target, bias, _shaped(graph, layer, operand, [-1]))
    layer.args = (layer.args[0], weight, bias, *layer.args[3:])
    replace(node, layer)


def _layer_and_operand(node: Node) -> tuple[Node, Node | float] | None:
    if node.target not in _TARGETS or node.kwargs or len(node.args) != 2:  # noqa: PLR2004  # two operands
        return None
    layer, operand = node.args
    if not _is_layer(layer) and node.target in (_ATEN.mul.Tensor, _ATEN.add.Tensor):
        layer, operand = operand, layer
    if not isinstance(layer, Node) or not _is_layer(layer) or len(layer.users) != 1:
        return None
    if isinstance(operand, int | float):
        return layer, float(operand)
    return (layer, operand) if is_constant(operand) and _is_for_channels(operand, layer) else None  # type: ignore[arg-type, return-value]


def _is_layer(node: object) -> bool:
    if not isinstance(node, Node) or node.target not in OUTPUT_CHANNEL_AXIS or node.kwargs:
        return False
    grouped = _axis(node) == 1 and len(node.args) > 6 and node.args[6] != 1  # noqa: PLR2004  # groups come seventh
    return not grouped and all(arg is None or is_constant(arg) or _is_computed(arg) for arg in node.args[1:3])


def _axis(layer: Node) -> int:
    """The axis of the weight that counts output channels."""
    return OUTPUT_CHANNEL_AXIS[layer.target]  # type: ignore[index]  # an ATen operator


def _is_computed(node: object) -> bool:
    """Whether ``node`` is what this rewrite has made of a weight or bias."""
    return (
        isinstance(node, Node)
        and node.target in (*_TARGETS, _ATEN.reshape.default)
        and all(is_constant(source) or _is_computed(source) for source in node.all_input_nodes)
    )


def _is_for_channels(operand: Node, layer: Node) -> bool:
    """Whether ``operand`` has one float32 value for all of the layer's result, or for each of its channels."""
    value: torch.Tensor = operand.meta["val"]
    result: torch.Tensor = layer.meta["val"]
    if value.dtype != torch.float32 or value.dim() > result.dim():
        return False
    if value.numel() == 1:
        return True
    shape = [1] * (result.dim() - value.dim()) + list(value.shape)
    axis = result.dim() - 1 if layer.target == _ATEN.linear.default else 1
    return shape[axis] == value.numel() and shape[axis] == result.shape[axis]


def _channels(layer: Node) -> int:
    result = layer.meta["val"]
    return int(result.shape[-1] if layer.target == _ATEN.linear.default else result.shape[1])


def _shaped(graph: GraphModule, layer: Node, operand: Node | float, shape: list[int]) -> Node | float:
    """``operand`` in the ``shape`` of a bias, or of a weight; read anew, as it may stand behind the layer."""
    if not isinstance(operand, Node):
        return operand
    with graph.graph.inserting_before(layer):
        again = graph.graph.get_attr(str(operand.target))
    again.meta = dict(operand.meta)
    return call(graph, layer, _ATEN.reshape.default, again, shape)
