"""Matrix products: with constants they become ``linear``, batches of them ``bmm``: the forms with fast kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant, is_constant, new_constant
from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten


def name_linear_layers(graph: GraphModule) -> None:
    """Write a product with a constant matrix, ``x @ weight``, as ``linear``, so that it becomes an int8 layer.

    Before: constants are folded. After: no mm, matmul or addmm has a
    constant matrix on its right.
    """
    for node in list(graph.graph.nodes):
        found = _linear_parts(node)
        if found is None:
            continue
        source, matrix, bias = found
        weight = new_constant(graph, node, constant(graph, matrix).t())
        replace(node, call(graph, node, _ATEN.linear.default, source, weight, *([] if bias is None else [bias])))


def _linear_parts(node: Node) -> tuple[Node, Node, Node | None] | None:
    """What the product reads: input, constant matrix and, of ``addmm``, constant bias."""
    if node.target in (_ATEN.mm.default, _ATEN.matmul.default):
        source, matrix, bias = node.args[0], node.args[1], None
    elif node.target == _ATEN.addmm.default and not node.kwargs and is_constant(node.args[0]):
        bias, source, matrix = node.args[:3]
    else:
        return None
    ranks = [operand.meta["val"].dim() for operand in (source, matrix)]  # type: ignore[union-attr]  # products read nodes
    if ranks[0] < 2 or ranks[1] != 2 or not is_constant(matrix) or is_constant(source):  # noqa: PLR2004  # matrices
        return None
    if bias is not None and bias.meta["val"].dim() != 1:  # type: ignore[union-attr]  # checked above
        return None
    return source, matrix, bias  # type: ignore[return-value]  # all of them nodes
