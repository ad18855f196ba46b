"""Activations in the forms that have kernels: clamps by any name become ``relu`` or ``hardtanh``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant, is_constant
from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Klambauer et al., "Self-Normalizing Neural Networks" (NeurIPS 2017)."""

_NOT_IMAGES = (2, 3)
"""Dimensions of rows of features and of signals, channels second."""

CLAMPS = (_ATEN.relu.default, _ATEN.hardtanh.default, _ATEN.clamp.default)
"""What is left of clamps after the rewrite; ``clamp`` only where one side is open and it is no relu."""


FUNCTIONS = (
    _ATEN.hardswish.default,
    _ATEN.sigmoid.default,
    _ATEN.tanh.default,
    _ATEN.gelu.default,
    _ATEN.leaky_relu.default,
    _ATEN.elu.default,
)
"""Smooth and other activations that XNNPACK computes with int8 before and behind."""


def name_clamps_alike(graph: GraphModule) -> None:
    """Write relu6, clamp, clamp_min, clamp_max as ``relu`` (0, inf) or ``hardtanh`` (low, high).

    The runtimes fuse these two into what stands before them and know no
    other name. Bounds that are tensors stay as they are.
    """
    for node in list(graph.graph.nodes):
        bounds = _bounds_by_any_name(node)
        if bounds is None:
            continue
        low, high = bounds
        if (low, high) == (0.0, None):
            node.target, node.args, node.kwargs = _ATEN.relu.default, (node.args[0],), {}
        elif low is not None and high is not None and low <= high:
            node.target, node.args, node.kwargs = _ATEN.hardtanh.default, (node.args[0], low, high), {}
        else:
            node.target, node.args, node.kwargs = _ATEN.clamp.default, (node.args[0], low, high), {}


def spell_out(graph: GraphModule) -> None:
    """Write what XNNPACK has no kernel for in operators that it has.

    Hard-sigmoid as a clamp of ``x / 6 + 1 / 2``, whose product and sum the
    layer before it takes in (:func:`edgeq.quantize.rewrite.scales.fold_scales`); ExecuTorch's
    decomposition has a conversion XNNPACK does not take. SiLU as
    ``x * sigmoid(x)``, SELU as a scaled ELU, PReLU with a single slope as
    leaky ReLU, with a slope for each channel on rows and signals as that of
    an image.
    """
    for node in list(graph.graph.nodes):
        match node.target:
            case _ATEN.hardsigmoid.default:
                product = call(graph, node, _ATEN.mul.Tensor, node.args[0], 1.0 / 6.0)
                raised = call(graph, node, _ATEN.add.Tensor, product, 0.5)
                replace(node, call(graph, node, _ATEN.hardtanh.default, raised, 0.0, 1.0))
            case _ATEN.silu.default:
                gate = call(graph, node, _ATEN.sigmoid.default, node.args[0])
                replace(node, call(graph, node, _ATEN.mul.Tensor, node.args[0], gate))
            case _ATEN.selu.default:
                curve = call(graph, node, _ATEN.elu.default, node.args[0], _SELU_ALPHA)
                replace(node, call(graph, node, _ATEN.mul.Tensor, curve, _SELU_SCALE))
            case _ATEN.elu.default if len(node.args) == 1:
                node.args = (node.args[0], 1.0)
            case _ATEN.prelu.default if is_constant(node.args[1]) and node.args[1].meta["val"].numel() == 1:
                slope = float(constant(graph, node.args[1]))
                replace(node, call(graph, node, _ATEN.leaky_relu.default, node.args[0], slope))
            case _ATEN.prelu.default if len(shape := list(node.args[0].meta["val"].shape)) in _NOT_IMAGES:
                # XNNPACK is handed a slope for each channel at any rank, and takes images only.
                image = call(graph, node, _ATEN.reshape.default, node.args[0], [*shape, *[1] * (4 - len(shape))])
                curve = call(graph, node, _ATEN.prelu.default, image, node.args[1])
                replace(node, call(graph, node, _ATEN.reshape.default, curve, shape))


def clamp_bounds(node: Node) -> tuple[float, float]:
    """The range that a node of ``CLAMPS`` lets through."""
    if node.target == _ATEN.relu.default:
        return 0.0, float("inf")
    low, high = (*node.args[1:3], None, None)[:2]
    if node.target == _ATEN.hardtanh.default:
        return float(-1 if low is None else low), float(1 if high is None else high)  # type: ignore[arg-type]
    return float("-inf") if low is None else float(low), float("inf") if high is None else float(high)  # type: ignore[arg-type]


def _bounds_by_any_name(node: Node) -> tuple[float | None, float | None] | None:
    match node.target:
        case _ATEN.relu6.default:
            return 0.0, 6.0
        case _ATEN.hardtanh.default:
            return clamp_bounds(node)
        case _ATEN.clamp.default:
            low, high = node.kwargs.get("min"), node.kwargs.get("max")
            positional = [*node.args[1:], None, None]
            low = positional[0] if low is None else low
            high = positional[1] if high is None else high
        case _ATEN.clamp_min.default:
            low, high = node.args[1], None
        case _ATEN.clamp_max.default:
            low, high = None, node.args[1]
        case _:
            return None
    if not all(bound is None or isinstance(bound, int | float) for bound in (low, high)):
        return None
    return (None if low is None else float(low)), (None if high is None else float(high))  # type: ignore[arg-type]
