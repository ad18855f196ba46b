"""Batch norm: folded into the layer before it (Jacob et al. 2018, section 3.2), or a layer of its own."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.attributes import constant, is_constant, new_constant

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
_BATCH_NORM = _ATEN._native_batch_norm_legit_no_training.default  # noqa: SLF001  # the operator's public name
OUTPUT_CHANNEL_AXIS = {
    _ATEN.conv1d.default: 0,
    _ATEN.conv2d.default: 0,
    _ATEN.conv2d.padding: 0,
    _ATEN.conv1d.padding: 0,
    _ATEN.conv3d.default: 0,
    _ATEN.conv_transpose1d.default: 1,
    _ATEN.conv_transpose2d.input: 1,
    _ATEN.linear.default: 0,
}


def fold_batch_norms(graph: GraphModule) -> None:
    """Leave no batch norm in the graph.

    Weights and bias of the layer before it are multiplied by its factor
    where nobody else reads that layer's output (torchao folds it then too,
    and changes what the others read). Weights shared by several layers are
    copied, not changed. A batch norm that stands elsewhere, as in DenseNet,
    becomes the depthwise 1x1 convolution that it is, or a multiplication
    and an addition where there is no plane.

    Before: weights are constants. After: no batch norm with constant
    statistics is left.
    """
    for norm in list(graph.graph.nodes):
        if norm.target != _BATCH_NORM or not all(arg is None or is_constant(arg) for arg in norm.args[1:5]):
            continue
        if _foldable(norm):
            result = norm.args[0]
            weight, bias = _folded(graph, result, norm)
            rest = result.args[3:]
            result.args = (result.args[0], *_constants(graph, result, weight, bias), *rest)
        else:
            result = _standing_alone(graph, norm)
        for user in list(norm.users):
            if user.target is operator.getitem and user.args[1] == 0:
                user.replace_all_uses_with(result)


def _foldable(norm: Node) -> bool:
    layer = norm.args[0]
    if not isinstance(layer, torch.fx.Node) or layer.target not in OUTPUT_CHANNEL_AXIS or len(layer.users) != 1:
        return False
    if layer.target == _ATEN.linear.default and layer.meta["val"].dim() != 2:  # noqa: PLR2004  # (batch, channels)
        return False
    if OUTPUT_CHANNEL_AXIS[layer.target] == 1 and _groups(layer) != 1:
        return False
    constants = [arg for arg in layer.args[1:3] if arg is not None]
    return all(is_constant(arg) for arg in constants) and not layer.kwargs


def _standing_alone(graph: GraphModule, norm: Node) -> Node:
    source: Node = norm.args[0]  # type: ignore[assignment]  # a batch norm reads a node
    factor, shift = (value.float() for value in _factor_and_shift(graph, norm))
    channels, spatial = len(factor), source.meta["val"].dim() - 2
    if spatial in (1, 2):
        weight, bias = _constants(graph, norm, factor.reshape(channels, 1, *[1] * spatial), shift)
        target = _ATEN.conv1d.default if spatial == 1 else _ATEN.conv2d.default
        steps: list[tuple[Any, ...]] = [(target, weight, bias, [1] * spatial, [0] * spatial, [1] * spatial, channels)]
    else:
        shape = [1, channels, *[1] * spatial]
        weight, bias = _constants(graph, norm, factor.reshape(shape), shift.reshape(shape))
        steps = [(_ATEN.mul.Tensor, weight), (_ATEN.add.Tensor, bias)]
    for target, *rest in steps:
        with graph.graph.inserting_before(norm):
            node = graph.graph.call_function(target, (source, *rest))
        node.meta = {**norm.meta, "val": source.meta["val"]}
        source = node
    return source


def _constants(graph: GraphModule, before: Node, *values: torch.Tensor) -> tuple[Node, ...]:
    return tuple(new_constant(graph, before, value) for value in values)


def _factor_and_shift(graph: GraphModule, norm: Node) -> tuple[torch.Tensor, torch.Tensor]:
    """The norm as ``x * factor + shift`` for each channel, in float64."""
    gamma, beta, mean, variance = (
        None if arg is None else constant(graph, arg).double()  # type: ignore[arg-type]  # checked by the caller
        for arg in norm.args[1:5]
    )
    eps = float(norm.args[6])  # type: ignore[arg-type]
    assert mean is not None  # noqa: S101  # a batch norm without training always has statistics
    assert variance is not None  # noqa: S101  # the same
    factor = torch.rsqrt(variance + eps) * (1.0 if gamma is None else gamma)
    return factor, (0.0 if beta is None else beta) - mean * factor


def _folded(graph: GraphModule, layer: Node, norm: Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of layer and norm together, computed in float64."""
    factor, shift = _factor_and_shift(graph, norm)
    weight = constant(graph, layer.args[1])  # type: ignore[arg-type]
    has_bias = len(layer.args) > 2 and layer.args[2] is not None  # noqa: PLR2004  # input, weight, bias
    bias = constant(graph, layer.args[2]).double() if has_bias else torch.zeros_like(shift)  # type: ignore[arg-type]
    shape = [1] * weight.dim()
    shape[OUTPUT_CHANNEL_AXIS[layer.target]] = -1  # type: ignore[index]
    return (weight.double() * factor.reshape(shape)).to(weight.dtype), (bias * factor + shift).to(weight.dtype)


def _groups(layer: Node) -> int:
    position = 6
    return int(layer.args[position]) if len(layer.args) > position else 1  # type: ignore[arg-type]
