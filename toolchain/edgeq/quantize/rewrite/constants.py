"""Values that do not depend on any input."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.attributes import constant, is_constant, new_constant

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


_TENSOR = torch.empty(0)
_BATCH_NORM = torch.ops.aten._native_batch_norm_legit_no_training.default  # noqa: SLF001  # the operator's public name


def fold_constants(graph: GraphModule) -> None:
    """Compute every node all of whose inputs are constants: weight norms, position tables, reshaped weights.

    Nodes without any tensor input (``zeros``, ``arange``) stay: they cost
    nothing to keep and a file full of zeros to fold. Only statistics of a
    batch norm do not, as they go with it. Nodes that say what the integers
    of a quantized weight stand for stay as well.

    Before: any graph. After: no operator reads constants alone, but for
    those two kinds and random ones.
    """
    values: dict[Node, Any] = {}
    statistics = _statistics(graph)
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or _is_random(node) or _reads_integers(node):
            continue
        if not node.all_input_nodes and node not in statistics:
            continue
        if not all(source in values or is_constant(source) for source in node.all_input_nodes):
            continue
        has_tuples = any(not isinstance(values.get(source, _TENSOR), torch.Tensor) for source in node.all_input_nodes)
        if has_tuples and node.target is not operator.getitem:
            continue
        known = {s: values[s] if s in values else constant(graph, s) for s in node.all_input_nodes}
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), known.__getitem__)
        with torch.no_grad():
            values[node] = node.target(*args, **kwargs)
    for node, value in values.items():
        if isinstance(value, torch.Tensor) and any(user not in values for user in node.users):
            node.replace_all_uses_with(new_constant(graph, node, value), lambda user: user not in values)


def _statistics(graph: GraphModule) -> set[Node]:
    """Everything that the parameters and statistics of a batch norm are computed from."""
    found: set[Node] = set()
    waiting = [
        source
        for node in graph.graph.nodes
        if node.target == _BATCH_NORM
        for source in node.args[1:5]
        if isinstance(source, torch.fx.Node)
    ]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _is_random(node: Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def _reads_integers(node: Node) -> bool:
    return getattr(node.target, "namespace", "") == "quantized_decomposed"
