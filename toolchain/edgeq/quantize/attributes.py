"""Constant tensors of a graph module: read, replaced and added."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


def is_constant(node: object) -> bool:
    """Whether ``node`` reads a parameter or buffer of the graph module."""
    return isinstance(node, torch.fx.Node) and node.op == "get_attr"


def constant(graph: GraphModule, node: Node) -> torch.Tensor:
    """The tensor that the ``get_attr`` node reads."""
    value: object = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{node.target} is a {type(value).__name__}, not a tensor")
    return value.detach()


def new_constant(graph: GraphModule, before: Node, value: torch.Tensor) -> Node:
    """Add ``value`` as a buffer and return a node, placed before ``before``, that reads it."""
    name = next(name for index in itertools.count() if not hasattr(graph, name := f"_folded_{index}"))
    graph.register_buffer(name, value.detach().clone().contiguous())
    with graph.graph.inserting_before(before):
        node = graph.graph.get_attr(name)
    fake_mode = next(
        other.meta["val"].fake_mode for other in graph.graph.nodes if hasattr(other.meta.get("val"), "fake_mode")
    )
    node.meta["val"] = fake_mode.from_tensor(value, static_shapes=True)
    return node
