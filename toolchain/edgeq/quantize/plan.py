"""Which tensors of a float graph become int8, and which of them share a scale.

A tensor is quantized where that lets a kernel run in int8, and nowhere
else:

* convolutions and linear layers with constant weights always; a clamp that
  alone reads their result belongs to them and the scale is that of what the
  clamp lets through. (ExecuTorch's own quantizer gives ``hardtanh`` the
  scale of the unclamped tensor and does not know ``relu6``.)
* additions, multiplications, global means and concatenations where every
  input is int8 already and somebody who reads the result wants int8;
* functions of each value alone (hard-swish, sigmoid, GELU and their like)
  between int8 tensors, which are looked up in a table of 256 results;
* operators that only move values, which keep the scale of their input.

Everything else stays float: softmax, layer norm, the residual stream of a
transformer, the last addition before an output.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.fx import Node

from edgeq.quantize.attributes import is_constant
from edgeq.quantize.rewrite.activations import CLAMPS, FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from torch.fx import Graph

_ATEN = torch.ops.aten

_PAD = _ATEN.constant_pad_nd.default
CONVOLUTIONS = (_ATEN.conv1d.default, _ATEN.conv2d.default)
TRANSPOSED = (_ATEN.conv_transpose1d.default, _ATEN.conv_transpose2d.input)
LAYERS = (*CONVOLUTIONS, *TRANSPOSED, _ATEN.linear.default)
"""Operators with constant weights; nearly all MACs are here."""

MOVES = (
    _ATEN.reshape.default,
    _ATEN.permute.default,
    _ATEN.transpose.int,
    _ATEN.slice.Tensor,
    _ATEN.max_pool2d.default,
    _PAD,
    *CLAMPS,
)
"""Operators whose result holds values of their input, or zeros, so that one scale serves both."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A pattern that can run in int8.

    ``node`` computes it and ``reader`` is what reads ``inputs``: a zero
    padding in front of a convolution, else ``node``. ``output`` is what is
    stored: a clamp behind it, else ``node``.
    ``layer`` has weights, ``own`` gives its result a scale of its own,
    ``shared`` the scale of its inputs.
    """

    node: Node
    reader: Node
    inputs: tuple[Node, ...]
    output: Node
    kind: Literal["layer", "own", "shared"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The operations that run in int8, in the order of the graph.

    ``leader`` maps every int8 tensor to the first tensor of the graph that
    has the same scale. ``results`` are the leaders of those from which an
    output of the model is read, as it is or through one float function.
    """

    operations: tuple[Operation, ...]
    leader: dict[Node, Node]
    results: frozenset[Node]

    @property
    def stored(self) -> frozenset[Node]:
        """Tensors that an int8 operation stores; other int8 tensors are made from float for their readers."""
        return frozenset(operation.output for operation in self.operations)


def plan_int8(graph: Graph, *, keep_float: Collection[Node] = ()) -> Plan:
    """Decide for every node of a simplified float graph; the layers in ``keep_float`` stay float."""
    candidates = [found for node in graph.nodes if node not in keep_float and (found := _operation(node)) is not None]
    chosen = _wanted(_feasible(candidates))
    leader = _leaders(graph, chosen)
    return Plan(operations=tuple(chosen), leader=leader, results=_results(graph, leader))


def _operation(node: Node) -> Operation | None:
    """The operation that ``node`` would be, whatever stands around it."""
    if node.op != "call_function" or not _is_float32(node):
        return None
    if node.target in LAYERS:
        return _layer(node)
    if node.target in (_ATEN.add.Tensor, _ATEN.mul.Tensor) and not node.kwargs:
        return _tensors_only(node, node.args, kind="own")
    if node.target in FUNCTIONS:
        return _tensors_only(node, node.args[:1], kind="own")
    if node.target == _ATEN.mean.dim and list(node.args[1:]) == [[2, 3], True]:  # as pool_globally_by_mean writes it
        return _tensors_only(node, node.args[:1], kind="own")
    return _shared(node)


def _shared(node: Node) -> Operation | None:
    if node.target == _ATEN.cat.default:
        return _tensors_only(node, node.args[0], kind="shared")  # type: ignore[arg-type]  # a list of nodes
    if node.target in MOVES and not _belongs_to_another(node):
        return _tensors_only(node, node.args[:1], kind="shared")
    return None


def _layer(node: Node) -> Operation | None:
    if not _has_constant_weights(node):
        return None
    source: Node = node.args[0]  # type: ignore[assignment]  # a layer reads a node
    reader = source if _only_pads_convolutions(source) else node
    return Operation(node=node, reader=reader, inputs=(reader.args[0],), output=_clamp_of(node), kind="layer")  # type: ignore[arg-type]


def _tensors_only(node: Node, inputs: Iterable[object], kind: Literal["own", "shared"]) -> Operation | None:
    nodes = tuple(arg for arg in inputs if isinstance(arg, Node))
    if len(nodes) != len(tuple(inputs)) or any(is_constant(arg) or not _is_float32(arg) for arg in nodes):
        return None
    output = _clamp_of(node) if kind == "own" else node
    return Operation(node=node, reader=node, inputs=nodes, output=output, kind=kind)


def _clamp_of(node: Node) -> Node:
    """The clamp that alone reads ``node``, or ``node`` itself."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in CLAMPS else node


def _belongs_to_another(node: Node) -> bool:
    """Whether ``node`` is the clamp at the end of another operation, or the padding in front of one."""
    if node.target in CLAMPS:
        source = _operation(node.args[0])  # type: ignore[arg-type]  # a clamp reads a node
        return source is not None and source.output is node
    return node.target == _PAD and (_only_pads_convolutions(node) or not _pads_with_zero(node))


def _only_pads_convolutions(node: Node) -> bool:
    """Whether ``node`` puts zeros around the plane of an image that only convolutions read.

    Both runtimes do that inside the convolution, with the zero point as
    padding, so that nothing needs to be stored between the two.
    """
    if node.target != _PAD or not _pads_with_zero(node) or not node.users:
        return False
    amounts: list[int] = list(node.args[1])  # type: ignore[arg-type]
    spatial = node.meta["val"].dim() - 2
    if any(amount < 0 for amount in amounts) or any(amounts[2 * spatial :]):
        return False
    return all(
        user.target in CONVOLUTIONS and user.args[0] is node and _has_constant_weights(user) for user in node.users
    )


def _pads_with_zero(pad: Node) -> bool:
    return len(pad.args) < 3 or not pad.args[2]  # noqa: PLR2004  # input, amounts, value


def _has_constant_weights(layer: Node) -> bool:
    bias = layer.args[2] if len(layer.args) > 2 else None  # noqa: PLR2004  # input, weight, bias
    return is_constant(layer.args[1]) and (bias is None or is_constant(bias)) and not is_constant(layer.args[0])


def _is_float32(node: Node) -> bool:
    """Whether ``node`` gives a float32 tensor whose shape is known beforehand, and that is not empty."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
        return False
    return all(isinstance(size, int) for size in value.shape) and value.numel() > 0


def _feasible(candidates: list[Operation]) -> list[Operation]:
    """Layers, and what can be reached from them through int8 alone."""
    stored: set[Node] = set()
    feasible = []
    for operation in candidates:
        if operation.kind == "layer" or stored.issuperset(operation.inputs):
            feasible.append(operation)
            stored.add(operation.output)
    return feasible


def _wanted(feasible: list[Operation]) -> list[Operation]:
    """Layers, and what leads to them through int8 alone."""
    read_in_int8: set[Node] = set()
    wanted = []
    for operation in reversed(feasible):
        if operation.kind == "layer" or operation.output in read_in_int8:
            wanted.append(operation)
            read_in_int8.update(operation.inputs)
    return wanted[::-1]


def _leaders(graph: Graph, operations: list[Operation]) -> dict[Node, Node]:
    order = {node: index for index, node in enumerate(graph.nodes)}
    leader: dict[Node, Node] = {}

    def find(node: Node) -> Node:
        while leader.setdefault(node, node) is not node:
            node = leader[node]
        return node

    for operation in operations:
        tensors = [*operation.inputs, operation.output]
        for tensor in tensors:
            find(tensor)
        if operation.kind == "shared":
            roots = sorted({find(tensor) for tensor in tensors}, key=order.__getitem__)
            leader.update(dict.fromkeys(roots, roots[0]))
    return {node: find(node) for node in leader}


def _results(graph: Graph, leader: dict[Node, Node]) -> frozenset[Node]:
    found = set()
    for tensor in next(node for node in graph.nodes if node.op == "output").all_input_nodes:
        node = tensor
        while node not in leader and len(node.all_input_nodes) == 1:
            node = node.all_input_nodes[0]
        if node in leader:
            found.add(leader[node])
    return frozenset(found)


def unread_results(plan: Plan) -> tuple[Node, ...]:
    """The layers whose result no int8 operation reads and no output of the model is read from."""
    read = readers(plan.operations)
    return tuple(
        operation.node
        for operation in plan.operations
        if operation.kind == "layer"
        and operation.output is operation.node
        and operation.node not in read
        and plan.leader[operation.node] not in plan.results
    )


def readers(operations: Iterable[Operation]) -> dict[Node, list[Operation]]:
    """For every int8 tensor, the operations that read it."""
    found: dict[Node, list[Operation]] = defaultdict(list)
    for operation in operations:
        for tensor in operation.inputs:
            found[tensor].append(operation)
    return found
