"""Scales that the integer kernels can compute with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant
from edgeq.quantize.observer import ActivationObserver, WeightObserver
from edgeq.quantize.plan import LAYERS
from edgeq.quantize.rewrite.activations import CLAMPS

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_LARGEST_BIAS = 2.0**30
"""Half of int32's range; the other half is for the products summed onto the bias."""

_LARGEST_RATIO = 128.0
"""XNNPACK refuses input scale x weight scale >= 256 x output scale."""


def fit_to_kernels(prepared: GraphModule) -> None:
    """Raise scales that are too small to compute with; call after calibration, before conversion.

    A bias is an int32 in units of input scale x weight scale: a channel
    whose weights are nearly zero would not hold it. ExecuTorch's own flow
    avoids that with a lower limit of 2**-12 on every scale, which costs
    ordinary channels their precision; here only the channels that need it
    are raised.
    """
    for layer in prepared.graph.nodes:
        if layer.target not in LAYERS:
            continue
        source, weight = _input_observer(prepared, layer), _observer(prepared, layer.args[1])
        if not isinstance(source, ActivationObserver) or not isinstance(weight, WeightObserver):
            continue
        input_scale = source.calculate_qparams()[0]
        if len(layer.args) > 2 and layer.args[2] is not None:  # noqa: PLR2004  # input, weight, bias
            needed = constant(prepared, layer.args[2]).abs() / (input_scale * _LARGEST_BIAS)
            weight.need_scale(needed)
        output = _output_observer(prepared, layer)
        if output is not None:
            output.need_scale(float((weight.calculate_qparams()[0] * input_scale).max()) / _LARGEST_RATIO)


def _observer(prepared: GraphModule, node: object) -> torch.nn.Module | None:
    if isinstance(node, torch.fx.Node) and node.op == "call_module":
        return prepared.get_submodule(str(node.target))
    return None


def _input_observer(prepared: GraphModule, layer: Node) -> torch.nn.Module | None:
    source = layer.args[0]
    padded = isinstance(source, torch.fx.Node) and source.target == torch.ops.aten.constant_pad_nd.default
    return _observer(prepared, source.args[0] if padded else source)  # type: ignore[union-attr]  # a pad is a node


def _output_observer(prepared: GraphModule, layer: Node) -> ActivationObserver | None:
    user = next(iter(layer.users), None)
    if user is not None and user.target in CLAMPS:
        user = next(iter(user.users), None)
    observer = _observer(prepared, user)
    return observer if isinstance(observer, ActivationObserver) else None
