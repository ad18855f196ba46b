"""Reading and changing ONNX graphs in the terms that the rewrites share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array that ``value`` always holds; None if it depends on an input."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def add_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer; the same name twice gives the first one, whose content must be equal."""
    if name in graph.initializers:
        return graph.initializers[name]
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    value.shape = ir.Shape(array.shape)
    value.dtype = ir.DataType.from_numpy(array.dtype)
    graph.register_initializer(value)
    return value


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that computes ``value`` if it is of one of ``op_types``."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in op_types else None


def only_consumer(value: ir.Value, *op_types: str) -> ir.Node | None:
    """The single node that reads ``value`` if it is of one of ``op_types``; None if an output is read as well."""
    uses = tuple(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    return node if node.op_type in op_types else None


def ints(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    """An attribute that is a list of integers."""
    attribute = node.attributes.get(name)
    return list(default) if attribute is None else list(attribute.as_ints())


def insert_before(node: ir.Node, new: ir.Node) -> None:
    """Put ``new`` into the graph of ``node``, before it."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)  # noqa: S101  # edgeq exports no functions
    graph.insert_before(node, new)


def put(  # noqa: PLR0913  # what a node is made of
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    *,
    attributes: Mapping[str, ir.Attr] | None = None,
    domain: str = "",
    outputs: int = 1,
) -> ir.Node:
    """A new node in front of ``before``, and its outputs, called ``name``."""
    node = ir.node(op_type, inputs, attributes, domain=domain, num_outputs=outputs, name=name)
    for index, value in enumerate(node.outputs):
        value.name = f"{name}_{index}"
    insert_before(before, node)
    return node


def take_place(new: ir.Value, old: ir.Value) -> None:
    """Let every reader of ``old``, and an output of the model, take ``new``, which gets its name, shape and dtype."""
    new.shape, new.type = old.shape, old.type
    new.name, old.name = old.name, f"{old.name}_before"
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def taken_outputs(node: ir.Node) -> tuple[ir.Value, ...]:
    """Fresh values that look like the outputs of ``node``."""
    return tuple(ir.Value(name=f"{value.name}_new", shape=value.shape, type=value.type) for value in node.outputs)


def replace(old: ir.Node, new: ir.Node) -> None:
    """Put ``new`` in the place of ``old``, outputs of the model included."""
    insert_before(old, new)
    for before, after in zip(old.outputs, new.outputs, strict=True):
        ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    assert isinstance(old.graph, ir.Graph)  # noqa: S101  # edgeq exports no functions
    old.graph.remove(old, safe=True)
