"""Large depthwise filters of an int8 program in float, for x86, where XNNPACK's float kernels for them are faster.

Its int8 kernels for x86 widen every value to 32 bits and multiply those; the
dot products of bytes that make other layers fast sum over channels, which a
depthwise filter does not. Measured on a Xeon with AVX512-VNNI, one thread,
240 channels of 14x14: 5x5 takes 94 us in int8, 47 in float and 8 for both
conversions; 3x3 gains nothing that the conversions do not take. On ARM the
int8 kernels retire fewer instructions for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.lower.exported import ATEN, READ, STORE, state_names

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

_FOLLOW = (ATEN.hardswish.default, ATEN.relu.default, ATEN.hardtanh.default, ATEN.mul.Tensor)
"""What is computed on the float result before it is rounded; none of it is slower in float."""

_CHOSEN = "edgeq_float_by_choice"
"""Exporters keep ``meta["custom"]`` and hand it on to what they make of a node."""

LARGEST_IN_INT8 = 9
"""Taps of a filter, 3x3."""


def filter_in_float(program: ExportedProgram) -> int:
    """Let large depthwise convolutions read the values that their integer weights stand for; says how many do.

    Before: a program of ATen operators between pairs of quantize and
    dequantize nodes, whose tensors may be shared with another program (they
    are replaced, not changed). After: the layers still read and store int8
    tensors at the same scales, but for activations and products directly
    behind them, which read their results unrounded.
    """
    found = [node for node in program.graph.nodes if _is_large_depthwise(node) and _read_weight_in_float(program, node)]
    computed = set(found)
    for node in program.graph.nodes:
        if node.target in _FOLLOW:
            for source in node.all_input_nodes:
                unrounded = _unrounded(source)
                if unrounded in computed:
                    node.replace_input_with(source, unrounded)
                    computed.add(node)
    for node in computed:
        node.meta["custom"] = {**node.meta.get("custom", {}), _CHOSEN: True}
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return len(found)


def is_float_by_choice(node: Node) -> bool:
    """Whether a node was left in float by :func:`filter_in_float`, or made of one that was."""
    return bool((node.meta.get("custom") or {}).get(_CHOSEN))


def _is_large_depthwise(node: Node) -> bool:
    if node.target != ATEN.conv2d.default or len(node.args) < 7:  # noqa: PLR2004  # groups come seventh
        return False
    outputs, inputs, *kernel = node.args[1].meta["val"].shape  # type: ignore[union-attr]  # a layer reads a weight
    depthwise = node.args[6] == outputs and inputs == 1
    return bool(depthwise and kernel[0] * kernel[1] > LARGEST_IN_INT8 and node.args[0].target == READ)  # type: ignore[union-attr]


def _read_weight_in_float(program: ExportedProgram, layer: Node) -> bool:
    """Put the weight's values in the place of its integers; False where somebody else reads those."""
    read: Node = layer.args[1]  # type: ignore[assignment]
    if "dequantize" not in str(read.target):
        return False
    stored: Node = read.args[0]  # type: ignore[assignment]
    if stored.op != "placeholder" or len(stored.users) > 1 or len(read.users) > 1:
        return False
    names = state_names(program)
    tensors = {node: program.state_dict.get(names.get(node.name, "")) for node in read.all_input_nodes}
    if any(tensor is None for tensor in tensors.values()):
        return False
    args = torch.fx.map_arg(read.args, tensors.__getitem__)
    program.state_dict[names[stored.name]] = read.target(*args, **read.kwargs)  # type: ignore[operator]  # an operator
    stored.meta["val"] = read.meta["val"]
    read.replace_all_uses_with(stored)
    return True


def _unrounded(node: Node) -> Node | None:
    """What ``node`` reads back from int8, before it was stored as int8."""
    if node.target != READ or node.args[0].target != STORE:  # type: ignore[union-attr]  # it reads a node
        return None
    return node.args[0].args[0]  # type: ignore[union-attr, return-value]
