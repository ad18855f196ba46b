"""Copies that nobody can tell from their source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
_COPIES = (_ATEN.clone.default, _ATEN.contiguous.default, _ATEN.alias.default, _ATEN.detach.default)


def drop_copies(graph: GraphModule) -> None:
    """Let users of a copy read its source: what dropout becomes, and ``contiguous``.

    The order in memory that a copy asks for is of no use to a graph whose
    views are all written as ``reshape``, as :func:`edgeq.quantize.rewrite.simplify` does. A copy
    that keeps an output from being an input stays.

    Before: views may still be written as ``view``, to be renamed later.
    After: no clone, contiguous, alias or detach is left but in front of an
    output that is an input or a constant.
    """
    for node in list(graph.graph.nodes):
        if node.target in _COPIES and not _keeps_apart(node):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def _keeps_apart(node: Node) -> bool:
    source = node.args[0]
    is_output = any(user.op == "output" for user in node.users)
    return is_output and getattr(source, "op", "") in ("placeholder", "get_attr")
