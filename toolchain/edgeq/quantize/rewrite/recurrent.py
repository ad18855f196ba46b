"""Recurrent layers written out step by step, so that their products become linear layers that can be quantized."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from edgeq.quantize.attributes import constant, is_constant, new_constant
from edgeq.quantize.rewrite.constants import fold_constants
from edgeq.quantize.rewrite.editing import call, replace
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from torch.fx import GraphModule

_ATEN = torch.ops.aten
_LSTM = _ATEN.lstm.input
_GRU = _ATEN.gru.input
_PLAIN: dict[Any, Any] = {_ATEN.rnn_tanh.input: _ATEN.tanh.default, _ATEN.rnn_relu.input: _ATEN.relu.default}
RECURRENT = (_LSTM, _GRU, *_PLAIN)
"""Operators of whole recurrent layers."""

Call = Callable[..., "Node"]
"""Adds a call of an operator to the graph."""


def is_unrollable(node: Node) -> bool:
    """Whether ``node`` is a recurrent layer with constant weights."""
    parameters: Any = node.args[2] if node.target in RECURRENT else ()
    return bool(parameters) and all(is_constant(parameter) for parameter in parameters)


def unroll_recurrent_layers(graph: GraphModule) -> bool:
    """Write LSTM, GRU and plain recurrent layers with constant weights as linear layers and pointwise operators.

    Gives whether there was any. What a layer makes of its inputs is one
    product for all time steps; what it makes of its state is one for each
    step, all of which read the same weights. The first step from a state of
    zeros needs none.

    Before: weights are constants. After: no recurrent operator with
    constant weights is left.
    """
    found = [node for node in graph.graph.nodes if is_unrollable(node)]
    for node in found:
        _unroll(graph, node)
    fold_constants(graph)  # the first step of a GRU from a state of zeros
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    return bool(found)


def step_by_step(graph: GraphModule) -> GraphModule | None:
    """A copy of ``graph`` with its recurrent layers unrolled; None if it has none that could be.

    ExecuTorch unrolls those that are left, into operators that XNNPACK does
    not take: two partitions for each time step.
    """
    if not any(is_unrollable(node) for node in graph.graph.nodes):
        return None
    with quietly():
        copied = copy.deepcopy(graph)
    unroll_recurrent_layers(copied)
    return copied


@dataclass(frozen=True, kw_only=True)
class _Direction:
    """One direction of one layer: its weights, and the state it starts from; None for zeros."""

    weight: Node
    recurrent_weight: Node
    bias: Node | None
    recurrent_bias: Node | None
    projection: Node | None
    state: Node | None
    cell: Node | None
    reverse: bool


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What a direction gives: the state after each step in the order of time, and the last state and cell."""

    states: list[Node]
    state: Node
    cell: Node | None


def _unroll(graph: GraphModule, node: Node) -> None:
    source: Any
    source, batch_first = node.args[0], node.args[8]
    num_layers: Any = node.args[4]

    def add(target: Any, *args: Any) -> Node:  # noqa: ANN401  # an operator and its arguments
        return call(graph, node, target, *args)

    sequence = add(_ATEN.transpose.int, source, 0, 1) if batch_first else source
    directions = _directions(graph, node, add)
    each = len(directions) // num_layers
    runs: list[_Run] = []
    for layer in range(num_layers):
        both = [_run(graph, node, add, sequence, one) for one in directions[layer * each : (layer + 1) * each]]
        joined = [add(_ATEN.cat.default, [_row(add, state) for state in run.states], 0) for run in both]
        sequence = add(_ATEN.cat.default, joined, 2) if each > 1 else joined[0]
        runs += both
    results = [
        add(_ATEN.transpose.int, sequence, 0, 1) if batch_first else sequence,
        add(_ATEN.cat.default, [_row(add, run.state) for run in runs], 0),
    ]
    cells = [_row(add, run.cell) for run in runs if run.cell is not None]
    if cells:
        results.append(add(_ATEN.cat.default, cells, 0))
    for user in list(node.users):
        index: Any = user.args[1]
        replace(user, results[index])
    node.graph.erase_node(node)


def _row(add: Call, state: Node) -> Node:
    """A state (batch, size) as one row of a sequence."""
    return add(_ATEN.reshape.default, state, [1, *state.meta["val"].shape])


def _directions(graph: GraphModule, node: Node, add: Call) -> list[_Direction]:
    """Every direction of every layer, in torch's own order: layer by layer, forward before backward."""
    parameters: Any = node.args[2]
    has_biases, bidirectional = node.args[3], node.args[7]
    num_layers: Any = node.args[4]
    count = num_layers * (2 if bidirectional else 1)
    states: Any = node.args[1] if node.target is _LSTM else [node.args[1]]
    each = len(parameters) // count
    found = []
    for index in range(count):
        weight, recurrent, *others = parameters[index * each : (index + 1) * each]
        bias, recurrent_bias = others[:2] if has_biases else (None, None)
        if node.target is not _GRU and bias is not None and recurrent_bias is not None:
            # Both are added to the same sum; in a GRU a gate stands between them.
            summed = constant(graph, bias) + constant(graph, recurrent_bias)
            bias, recurrent_bias = new_constant(graph, node, summed), None
        start = [_start(add, state, index) for state in states]
        found.append(
            _Direction(
                weight=weight,
                recurrent_weight=recurrent,
                bias=bias,
                recurrent_bias=recurrent_bias,
                projection=others[-1] if len(others) % 2 else None,
                state=start[0],
                cell=start[1] if len(start) > 1 else None,
                reverse=bool(bidirectional) and index % 2 == 1,
            )
        )
    return found


def _start(add: Call, states: Node, index: int) -> Node | None:
    """The state (batch, size) that the direction of that number starts from; None for zeros."""
    if states.target is _ATEN.zeros.default:
        return None
    one = add(_ATEN.slice.Tensor, states, 0, index, index + 1)
    return add(_ATEN.reshape.default, one, list(states.meta["val"].shape[1:]))


def _run(graph: GraphModule, node: Node, add: Call, sequence: Node, direction: _Direction) -> _Run:
    """All steps of one direction over ``sequence`` (steps, batch, inputs)."""
    inputs = add(_ATEN.linear.default, sequence, direction.weight, direction.bias)
    steps, *step_shape = inputs.meta["val"].shape
    state, cell = direction.state, direction.cell
    states: list[Node] = []
    for step in reversed(range(steps)) if direction.reverse else range(steps):
        part = add(_ATEN.reshape.default, add(_ATEN.slice.Tensor, inputs, 0, step, step + 1), step_shape)
        if node.target is _LSTM:
            state, cell = _lstm_step(add, part, state, cell, direction)
        elif node.target is _GRU:
            # Its reset gate stands behind the product of the state, bias included, which zeros have as well.
            state = _gru_step(add, part, state or _zeros(graph, part, direction), direction)
        else:
            state = add(_PLAIN[node.target], _with_state(add, part, state, direction))
        states.append(state)
    assert state is not None  # noqa: S101  # torch refuses a sequence without a step
    return _Run(states=states[::-1] if direction.reverse else states, state=state, cell=cell)


def _with_state(add: Call, part: Node, state: Node | None, direction: _Direction) -> Node:
    """What the gates see: the part of the inputs plus the product of the state."""
    if state is None:
        return part
    return add(_ATEN.add.Tensor, add(_ATEN.linear.default, state, direction.recurrent_weight), part)


def _gates(add: Call, sums: Node, count: int) -> list[Node]:
    size = sums.meta["val"].shape[1] // count
    return [add(_ATEN.slice.Tensor, sums, 1, index * size, (index + 1) * size) for index in range(count)]


def _lstm_step(
    add: Call, part: Node, state: Node | None, cell: Node | None, direction: _Direction
) -> tuple[Node, Node]:
    """Hochreiter and Schmidhuber, "Long Short-Term Memory" (Neural Computation, 1997); gates i, f, g, o as in torch."""
    take, keep, new, show = _gates(add, _with_state(add, part, state, direction), 4)
    taken = add(_ATEN.mul.Tensor, add(_ATEN.sigmoid.default, take), add(_ATEN.tanh.default, new))
    if cell is not None:
        kept = add(_ATEN.mul.Tensor, add(_ATEN.sigmoid.default, keep), cell)
        taken = add(_ATEN.add.Tensor, kept, taken)
    shown = add(_ATEN.mul.Tensor, add(_ATEN.sigmoid.default, show), add(_ATEN.tanh.default, taken))
    if direction.projection is not None:
        shown = add(_ATEN.linear.default, shown, direction.projection)
    return shown, taken


def _zeros(graph: GraphModule, part: Node, direction: _Direction) -> Node:
    batch, size = part.meta["val"].shape[0], direction.recurrent_weight.meta["val"].shape[1]
    return new_constant(graph, part, torch.zeros(batch, size))


def _gru_step(add: Call, part: Node, state: Node, direction: _Direction) -> Node:
    """Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (EMNLP 2014); gates r, z, n."""
    product = add(_ATEN.linear.default, state, direction.recurrent_weight, direction.recurrent_bias)
    reset_part, update_part, new_part = _gates(add, part, 3)
    reset_state, update_state, new_state = _gates(add, product, 3)
    reset = add(_ATEN.sigmoid.default, add(_ATEN.add.Tensor, reset_part, reset_state))
    update = add(_ATEN.sigmoid.default, add(_ATEN.add.Tensor, update_part, update_state))
    new = add(_ATEN.tanh.default, add(_ATEN.add.Tensor, new_part, add(_ATEN.mul.Tensor, reset, new_state)))
    change = add(_ATEN.sub.Tensor, state, new)
    return add(_ATEN.add.Tensor, new, add(_ATEN.mul.Tensor, update, change))
