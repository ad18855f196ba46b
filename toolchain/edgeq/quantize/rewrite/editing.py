"""The two steps that rewrites are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


def call(graph: GraphModule, before: Node, target: Any, *args: Any, **kwargs: Any) -> Node:  # noqa: ANN401  # an operator and its arguments
    """A call of ``target`` in front of ``before``, with its source line and with a shape of its own."""
    with graph.graph.inserting_before(before):
        node = graph.graph.call_function(target, args, kwargs)
    node.meta = {key: value for key, value in before.meta.items() if key != "val"}
    values = torch.fx.map_arg(args, lambda source: source.meta["val"])
    node.meta["val"] = target(*values, **kwargs)
    return node


def replace(old: Node, new: Node) -> None:
    """Let every user of ``old`` read ``new``, and remove ``old``."""
    old.replace_all_uses_with(new)
    old.graph.erase_node(old)
