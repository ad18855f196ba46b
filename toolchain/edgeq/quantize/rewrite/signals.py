"""Max pooling of signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from torch.fx import GraphModule

_ATEN = torch.ops.aten


def pool_signals_as_planes(graph: GraphModule) -> None:
    """Write ``max_pool1d`` as ``max_pool2d`` over planes of height 1, the only one that runtimes have in int8.

    Before: any graph. After: no max_pool1d over a batch is left.
    """
    for node in list(graph.graph.nodes):
        if node.target != _ATEN.max_pool1d.default or node.args[0].meta["val"].dim() != 3:  # noqa: PLR2004  # (batch, channels, length)
            continue
        given: list[Any] = [*node.args, *(None, None, [], [0], [1], False)[len(node.args) :]]
        source, kernel, stride, padding, dilation, ceil_mode = given
        plane = call(graph, node, _ATEN.unsqueeze.default, source, 2)
        windows = [
            [first, *numbers] for first, numbers in ((1, kernel), (1, stride or kernel), (0, padding), (1, dilation))
        ]
        pooled = call(graph, node, _ATEN.max_pool2d.default, plane, *windows, ceil_mode)
        replace(node, call(graph, node, _ATEN.squeeze.dim, pooled, 2))
