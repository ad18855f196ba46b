"""Batch norm folded into the convolution or linear layer before it (Jacob et al. 2018, section 3.2)."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant, is_constant, new_constant

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
_BATCH_NORM = _ATEN._native_batch_norm_legit_no_training.default  # noqa: SLF001  # the operator's public name
_OUTPUT_CHANNEL_AXIS = {
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
    """Multiply weights and bias by the batch norm's factor where nobody else reads the layer's output.

    Before quantization, so that the weights observed are those that run.
    Weights shared by several layers are copied, not changed.
    """
    for norm in list(graph.graph.nodes):
        if norm.target != _BATCH_NORM or not _foldable(norm):
            continue
        layer = norm.args[0]
        weight, bias = _folded(graph, layer, norm)
        rest = layer.args[3:]
        layer.args = (layer.args[0], new_constant(graph, layer, weight), new_constant(graph, layer, bias), *rest)
        for user in list(norm.users):
            if user.target is operator.getitem and user.args[1] == 0:
                user.replace_all_uses_with(layer)


def _foldable(norm: Node) -> bool:
    layer = norm.args[0]
    if not isinstance(layer, torch.fx.Node) or layer.target not in _OUTPUT_CHANNEL_AXIS or len(layer.users) != 1:
        return False
    if layer.target == _ATEN.linear.default and layer.meta["val"].dim() != 2:  # noqa: PLR2004  # (batch, channels)
        return False
    if _OUTPUT_CHANNEL_AXIS[layer.target] == 1 and _groups(layer) != 1:
        return False
    constants = [arg for arg in (*layer.args[1:3], *norm.args[1:5]) if arg is not None]
    return all(is_constant(arg) for arg in constants) and not layer.kwargs


def _folded(graph: GraphModule, layer: Node, norm: Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of layer and norm together, computed in float64."""
    gamma, beta, mean, variance = (
        None if arg is None else constant(graph, arg).double()  # type: ignore[arg-type]  # checked by _foldable
        for arg in norm.args[1:5]
    )
    eps = float(norm.args[6])  # type: ignore[arg-type]
    weight = constant(graph, layer.args[1])  # type: ignore[arg-type]
    assert mean is not None  # noqa: S101  # a batch norm without training always has statistics
    assert variance is not None  # noqa: S101  # the same
    factor = torch.rsqrt(variance + eps) * (1.0 if gamma is None else gamma)
    has_bias = len(layer.args) > 2 and layer.args[2] is not None  # noqa: PLR2004  # input, weight, bias
    bias = constant(graph, layer.args[2]).double() if has_bias else torch.zeros_like(mean)  # type: ignore[arg-type]
    shape = [1] * weight.dim()
    shape[_OUTPUT_CHANNEL_AXIS[layer.target]] = -1  # type: ignore[index]
    folded = (bias - mean) * factor + (0.0 if beta is None else beta)
    return (weight.double() * factor.reshape(shape)).to(weight.dtype), folded.to(weight.dtype)


def _groups(layer: Node) -> int:
    position = 6
    return int(layer.args[position]) if len(layer.args) > position else 1  # type: ignore[arg-type]
