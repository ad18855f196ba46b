"""Products of batches of matrices, attention among them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten


def multiply_in_batches(graph: GraphModule) -> None:
    """Write attention without a mask as two ``bmm`` and a softmax, and ``matmul`` of equal batches as ``bmm``.

    ExecuTorch would decompose both into operators that XNNPACK has no
    kernel for: expand, and the handling of rows that are masked entirely,
    which cannot be without a mask.

    Before: products with constants are linear layers. After: no attention
    without a mask is left, and no matmul of four or more dimensions with
    equal batches.
    """
    for node in list(graph.graph.nodes):
        if node.target == _ATEN.scaled_dot_product_attention.default and _is_plain(node):
            replace(node, _attention(graph, node))
        elif node.target == _ATEN.matmul.default and _has_equal_batches(node):
            replace(node, _product(graph, node, node.args[0], node.args[1]))


def _is_plain(node: Node) -> bool:
    """No mask, no dropout, not causal, no grouped heads."""
    if any(node.args[3:]) or any(node.kwargs.get(name) for name in ("attn_mask", "is_causal", "enable_gqa")):
        return False
    return _equal(list(node.args[:3]))


def _has_equal_batches(node: Node) -> bool:
    rank = node.meta["val"].dim()
    return _equal(list(node.args[:2])) and rank > 3  # noqa: PLR2004  # more than one batch dimension


def _equal(operands: list[Any]) -> bool:
    shapes = [operand.meta["val"].shape for operand in operands if isinstance(operand, torch.fx.Node)]
    return len(shapes) == len(operands) and len({tuple(shape[:-2]) for shape in shapes}) == 1 and len(shapes[0]) > 2  # noqa: PLR2004  # a batch of matrices


def _attention(graph: GraphModule, node: Node) -> Node:
    query, key, value = node.args[:3]
    scale: Any = node.kwargs.get("scale")
    if scale is None:
        scale = 1.0 / math.sqrt(query.meta["val"].shape[-1])  # type: ignore[union-attr]  # checked by _is_plain
    scaled = call(graph, node, _ATEN.mul.Tensor, query, float(scale))
    turned = call(graph, node, _ATEN.transpose.int, key, -2, -1)
    scores = call(graph, node, _ATEN.softmax.int, _product(graph, node, scaled, turned), -1)
    return _product(graph, node, scores, value)


def _product(graph: GraphModule, node: Node, left: Any, right: Any) -> Node:  # noqa: ANN401  # arguments of a node
    *batch, rows, inner = left.meta["val"].shape
    columns = right.meta["val"].shape[-1]
    count = math.prod(batch)
    first = call(graph, node, _ATEN.reshape.default, left, [count, rows, inner])
    second = call(graph, node, _ATEN.reshape.default, right, [count, inner, columns])
    product = call(graph, node, _ATEN.bmm.default, first, second)
    return call(graph, node, _ATEN.reshape.default, product, [*batch, rows, columns])
