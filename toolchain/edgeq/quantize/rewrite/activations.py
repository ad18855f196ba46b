"""Activations in the forms that have kernels: clamps by any name become ``relu`` or ``hardtanh``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten


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

    Before: hard-sigmoid is spelled out. After: no relu6, clamp_min or
    clamp_max with a number for a bound is left.
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
