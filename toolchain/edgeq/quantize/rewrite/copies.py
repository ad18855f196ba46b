"""Copies that nobody can tell from their source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
_COPIES = (_ATEN.clone.default, _ATEN.contiguous.default, _ATEN.alias.default, _ATEN.detach.default)


def drop_copies(graph: GraphModule) -> None:
    """Let users of a copy read its source: what dropout becomes, and ``contiguous`` of what is so already.

    A copy that changes the memory format stays, and so does one that keeps
    an output from being an input.
    """
    for node in list(graph.graph.nodes):
        if node.target in _COPIES and _same_layout(node) and not _keeps_apart(node):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def _same_layout(node: Node) -> bool:
    source = node.args[0]
    before, after = source.meta.get("val"), node.meta.get("val")  # type: ignore[union-attr]  # copies read a node
    if not (isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor)):
        return False
    return before.stride() == after.stride() and before.dtype == after.dtype


def _keeps_apart(node: Node) -> bool:
    source = node.args[0]
    is_output = any(user.op == "output" for user in node.users)
    return is_output and getattr(source, "op", "") in ("placeholder", "get_attr")
