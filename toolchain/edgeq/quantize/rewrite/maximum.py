"""The largest value of a plane."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch

from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from torch.fx import GraphModule

_ATEN = torch.ops.aten


def pool_to_one_maximum(graph: GraphModule) -> None:
    """Write ``adaptive_max_pool2d`` to a single value as ``max_pool2d`` over the whole plane, which ExecuTorch has.

    Before: any graph. After: no adaptive_max_pool2d to one value is left
    whose indices nobody reads.
    """
    for node in list(graph.graph.nodes):
        if node.target != _ATEN.adaptive_max_pool2d.default or list(node.args[1]) not in ([1], [1, 1]):
            continue
        values = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
        if len(values) == len(node.users) and node.args[0].meta["val"].dim() == 4:  # noqa: PLR2004  # (batch, channels, height, width)
            plane = list(node.args[0].meta["val"].shape[2:])
            for value in values:
                replace(value, call(graph, value, _ATEN.max_pool2d.default, node.args[0], plane, plane))
