"""An int8 program in the words of ExecuTorch's backends for Arm, which take fewer forms of it than XNNPACK.

They take a node only where every tensor around it is int8 or int32 and a
mark says that a quantizer meant it so. edgeq's programs have
the numbers and none of the marks, biases in float, and means over a plane,
which Arm's own quantizer takes apart before it annotates. What is written
here changes no scale and no integer of a weight.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.export.graph_signature import InputKind
from torch.fx import Node

from edgeq.lower.arm_tools import MARK, create_constant_placeholder, delete_constant_placeholder
from edgeq.lower.exported import ATEN, READ, STORE, state_names
from edgeq.quantize.plan import LAYERS
from edgeq.quantize.rewrite.activations import CLAMPS, FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch.export import ExportedProgram

_WORDS = torch.ops.quantized_decomposed
_READ_CHANNELS = _WORDS.dequantize_per_channel.default
_STORE_CHANNELS = _WORDS.quantize_per_channel.default
_READS = (READ, _READ_CHANNELS)
_STORES = (STORE, _STORE_CHANNELS)
_INT32 = torch.iinfo(torch.int32)

_MOVES = (
    ATEN.reshape.default,
    ATEN.permute.default,
    ATEN.transpose.int,
    ATEN.slice.Tensor,
    ATEN.constant_pad_nd.default,
)
_EITHER = (*_MOVES, ATEN.add.Tensor, ATEN.mul.Tensor, ATEN.cat.default, ATEN.max_pool2d.default)
BY_ETHOS_U = frozenset({*LAYERS, *FUNCTIONS, *CLAMPS, *_EITHER})
"""What edgeq's plan makes int8, but for means: Arm's passes need nothing more of these than what stands around them."""

BY_CMSIS_NN = frozenset({*LAYERS, ATEN.sigmoid.default, ATEN.tanh.default, *_EITHER} - {ATEN.conv_transpose1d.default})
"""Of those what ExecuTorch has a CMSIS-NN kernel for, or what may move integers as they are. It would strip any other
of its quantize nodes as well, and let a portable kernel compute on the bare integers."""

_MOST_ROWS, _MOST_WEIGHTS = 64, 4096
"""The largest kernel of a depthwise convolution on an Ethos-U (Vela's SUPPORTED_OPS.md)."""


def spell_linear_as_convolution(program: ExportedProgram) -> None:
    """Write int8 linear layers with a scale for each channel as 1x1 convolutions, for CMSIS-NN.

    Its kernel of a linear layer takes one scale for the whole weight. Before:
    a quantized program. After: no such layer is left between integers, and
    the same products are added.
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target == ATEN.linear.default and between_integers(node, but=2):
            _linear_as_convolution(program, node)
    graph.lint()
    program.graph_module.recompile()


def _linear_as_convolution(program: ExportedProgram, linear: Node) -> None:
    read, weight, *bias = linear.args
    stored: Any = weight.args[0]  # type: ignore[union-attr]  # a linear layer reads nodes
    name = state_names(program).get(stored.name)
    if weight.target != _READ_CHANNELS or name not in program.state_dict or len(stored.users) > 1:  # type: ignore[union-attr]
        return
    outputs, inputs = map(int, program.state_dict[name].shape)
    rows = int(linear.meta["val"].numel()) // outputs
    program.state_dict[name] = program.state_dict[name].reshape(outputs, inputs, 1, 1)
    for node in (stored, weight):
        node.meta["val"] = node.meta["val"].reshape(outputs, inputs, 1, 1)  # type: ignore[union-attr]
    numbers = next(iter(linear.users)).args[1:]
    with program.graph_module.graph.inserting_before(linear):
        image = _call(linear, ATEN.reshape.default, (read, [rows, inputs, 1, 1]), torch.empty(rows, inputs, 1, 1))
        image = _stored_and_read(image, read.args[1:])  # type: ignore[union-attr]
        made = _call(linear, ATEN.conv2d.default, (image, weight, *bias), torch.empty(rows, outputs, 1, 1))
        made = _stored_and_read(made, numbers)
        shape = list(linear.meta["val"].shape)
        flat = _call(linear, ATEN.reshape.default, (made, shape), torch.empty(shape))
    linear.replace_all_uses_with(flat)
    program.graph_module.graph.erase_node(linear)


def _stored_and_read(node: Node, numbers: tuple[Any, ...]) -> Node:
    """A quantize and a dequantize behind ``node``, at the graph's place of insertion."""
    stored = _call(node, STORE, (node, *numbers), node.meta["val"])
    stored.meta["val"] = stored.meta["val"].to(torch.int8)
    return _call(node, READ, (stored, *numbers), node.meta["val"])


def speak_arm(program: ExportedProgram, taken: Collection[object]) -> int:
    """Rewrite a quantized program that is about to be lowered for Arm; says how many means became convolutions.

    Its tensors are replaced, not changed.

    Before: ATen operators between pairs of quantize and dequantize nodes.
    After: the same, with biases in int32, means over a plane as depthwise
    convolutions, a pair behind every move that feeds a layer, and a mark on
    each node of the operators ``taken`` that has integers all around.
    """
    graph = program.graph_module.graph
    means = [node for node in graph.nodes if node.target == ATEN.mean.dim]
    rewritten = sum(_mean_as_convolution(program, node) for node in means)
    for node in list(graph.nodes):
        if node.target in _MOVES:
            _store_behind(program, node)
    for node in list(graph.nodes):
        if node.target in LAYERS:
            _bias_in_int32(program, node)
    for node in graph.nodes:
        if node.target in taken and between_integers(node):
            node.meta["custom"] = {**node.meta.get("custom", {}), **MARK}
    graph.lint()
    program.graph_module.recompile()
    return rewritten


def between_integers(node: Node, *, but: int | None = None) -> bool:
    """Whether ``node``, of a graph that is not lowered yet, reads nothing that was not int8 and gives nothing else.

    What it reads as its argument number ``but`` does not count.
    """
    given = [near for near in node.all_input_nodes if but is None or near not in node.args[but:]]
    return all(near.target in _READS for near in given) and all(user.target in _STORES for user in node.users)


def _mean_as_convolution(program: ExportedProgram, mean: Node) -> bool:
    """A mean over a plane is a depthwise convolution with weights 1, of which each stands for 1 / pixels.

    The sum is exact in int32, and one rounding brings it to the mean's own
    scale. Vela does the same to the MEAN of a TensorFlow Lite file (its
    ``convert_mean_to_depthwise_conv``).
    """
    read: Any = mean.args[0]
    if read.target != READ or list(mean.args[1:]) != [[2, 3], True] or not between_integers(mean):
        return False
    _, channels, *plane = map(int, read.meta["val"].shape)
    if plane[0] > _MOST_ROWS or prod(plane) > _MOST_WEIGHTS:
        return False
    graph, share = program.graph_module.graph, 1 / prod(plane)
    ones = _constant(program, f"{mean.name}_ones", torch.ones(channels, 1, *plane, dtype=torch.int8))
    with graph.inserting_before(mean):
        weight = _call(mean, READ, (ones, share, 0, -127, 127, torch.int8), torch.ones(channels, 1, *plane))
        bias = _zeros(program, mean, channels, float(read.args[1]) * share)
        args = (read, weight, bias, [1, 1], [0, 0], [1, 1], channels)
        convolution = graph.call_function(ATEN.conv2d.default, args)
    convolution.meta = dict(mean.meta)
    mean.replace_all_uses_with(convolution)
    graph.erase_node(mean)
    return True


def _zeros(program: ExportedProgram, near: Node, channels: int, scale: float) -> Node:
    stored = _constant(program, f"{near.name}_zeros", torch.zeros(channels, dtype=torch.int32))
    return _call(near, READ, (stored, scale, 0, _INT32.min + 1, _INT32.max, torch.int32), torch.zeros(channels))


def _store_behind(program: ExportedProgram, move: Node) -> None:
    """Store what a move gives in the scale of what it reads, if it gives it to someone in float: nothing is rounded."""
    read = move.args[0]
    padded = move.args[2] if move.target == ATEN.constant_pad_nd.default and len(move.args) > 2 else 0  # noqa: PLR2004  # input, amounts, value
    if not isinstance(read, Node) or read.target != READ or padded or all(one.target in _STORES for one in move.users):
        return
    if read.args[-1] != torch.int8:  # an image's bytes, which are read by the core
        return
    graph = program.graph_module.graph
    users = [user for user in move.users if user.target not in _STORES]
    with graph.inserting_after(move):
        stored = graph.call_function(STORE, (move, *read.args[1:]))
    with graph.inserting_after(stored):
        again = graph.call_function(READ, (stored, *read.args[1:]))
    for node, value in ((stored, move.meta["val"].to(torch.int8)), (again, move.meta["val"])):
        node.meta = {**_origin(move), "val": value}
    for user in users:
        user.replace_input_with(move, again)


def _bias_in_int32(program: ExportedProgram, layer: Node) -> None:
    """The bias of an int8 layer as integers of the accumulator's scale: that of its input times those of its weight."""
    read, weight, *rest = layer.args
    bias: Any = rest[0] if rest else None
    if not isinstance(read, Node) or not isinstance(weight, Node) or not isinstance(bias, Node):
        return
    if read.target != READ or weight.target not in _READS or bias.target in _READS:
        return
    scales = _tensor(program, weight.args[1]) * float(read.args[1])  # type: ignore[arg-type]  # a number
    value = _tensor(program, bias)
    integers = torch.round(value.double() / scales.double()).clamp(_INT32.min + 1, _INT32.max).to(torch.int32)
    stored = _constant(program, f"{layer.name}_bias_int32", integers)
    numbers: tuple[Any, ...]
    if weight.target == READ:
        numbers = (scales.item(), 0)
    else:
        zeros = torch.zeros_like(scales, dtype=torch.int64)
        numbers = (
            _constant(program, f"{layer.name}_bias_scale", scales),
            _constant(program, f"{layer.name}_bias_zero", zeros),
            0,
        )
    with program.graph_module.graph.inserting_before(layer):
        args = (stored, *numbers, _INT32.min + 1, _INT32.max, torch.int32)
        integers_read = _call(layer, weight.target, args, value)
    layer.replace_input_with(bias, integers_read)
    if not bias.users:
        delete_constant_placeholder(program, bias)


def _tensor(program: ExportedProgram, node: object) -> torch.Tensor:
    """The tensor of a placeholder, or of a number."""
    if not isinstance(node, Node):
        return torch.tensor([node], dtype=torch.float32)
    name = state_names(program)[node.name]
    found: torch.Tensor = program.state_dict[name] if name in program.state_dict else program.constants[name]
    return found


def _constant(program: ExportedProgram, name: str, value: torch.Tensor) -> Node:
    graph = program.graph_module.graph
    first = next(node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_before(first):
        made: Node = create_constant_placeholder(program, graph, f"b_{name}", InputKind.BUFFER, value, True)
    return made


def _call(near: Node, operator: Any, args: tuple[Any, ...], like: torch.Tensor) -> Node:  # noqa: ANN401  # torch's operators have no common type
    """A call at the graph's place of insertion that gives a tensor ``like`` this one, made for ``near``."""
    node = near.graph.call_function(operator, args)
    node.meta = {**_origin(near), "val": near.meta["val"].new_empty(like.shape, dtype=torch.float32)}
    return node


def _origin(node: Node) -> dict[str, Any]:
    """Where a node stands in the user's model, for one that is made beside it."""
    kept: dict[str, Any] = {
        key: node.meta[key] for key in ("stack_trace", "nn_module_stack", "from_node") if key in node.meta
    }
    return {**kept, "custom": {key: value for key, value in node.meta.get("custom", {}).items() if key not in MARK}}
