"""Multiply-accumulates of a node of a graph, from the shapes of its tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch
    from torch.fx import Node


def total_macs(nodes: Iterable[Node]) -> int:
    """The multiply-accumulates of one pass through ``nodes``."""
    return sum(macs(node) for node in nodes)


def macs(node: Node) -> int:
    """Multiply-accumulates of ``node``: convolutions, linear layers, matrix products, attention and recurrent layers.

    Works on ATen graphs and on ExecuTorch's edge graphs. Everything else,
    also an addition or a softmax, counts as 0.
    """
    if node.op != "call_function":
        return 0
    count = _COUNTS.get(operator_name(node))
    return 0 if count is None else count(node)


def operator_name(node: Node) -> str:
    """``conv2d`` of ``aten.conv2d.default``, in either dialect; empty for anything that is no operator."""
    name: str = getattr(node.target, "__name__", "")
    parts = name.split(".")
    return parts[1] if len(parts) == 3 else parts[0]  # noqa: PLR2004  # the edge dialect adds a namespace


def _convolution(node: Node) -> int:
    return _numel(node) * math.prod(_shape(node.args[1])[1:])


def _transposed_convolution(node: Node) -> int:
    return _numel(node.args[0]) * math.prod(_shape(node.args[1])[1:])


def _either_convolution(node: Node) -> int:
    return _transposed_convolution(node) if node.args[6] else _convolution(node)


def _linear(node: Node) -> int:
    return _numel(node) * int(_shape(node.args[1])[-1])


def _product(node: Node) -> int:
    return _numel(node) * int(_shape(node.args[0])[-1])


def _attention(node: Node) -> int:
    query, key, value = (_shape(arg) for arg in node.args[:3])
    scores = math.prod(query[:-1]) * int(key[-2])
    return scores * (int(query[-1]) + int(value[-1]))


def _einsum(node: Node) -> int:
    operands: Any = node.args[1]
    return einsum_macs(str(node.args[0]), [tuple(_shape(operand)) for operand in operands])


def einsum_macs(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """Multiply-accumulates of a product of tensors: the sizes of all its letters multiplied; 0 for a single tensor."""
    letters = [term.strip() for term in equation.split("->", maxsplit=1)[0].split(",")]
    if len(shapes) < 2 or any(len(term) != len(shape) for term, shape in zip(letters, shapes, strict=True)):  # noqa: PLR2004  # a product
        return 0
    sizes = {
        letter: size
        for term, shape in zip(letters, shapes, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }
    return math.prod(sizes.values())


def _recurrent(node: Node) -> int:
    sequence = _shape(node.args[0])
    weights: Any = node.args[2]
    per_step = sum(math.prod(_shape(weight)) for weight in weights if len(_shape(weight)) == 2)  # noqa: PLR2004  # not biases
    return math.prod(sequence[:-1]) * per_step


def _shape(arg: Any) -> torch.Size:  # noqa: ANN401  # fx arguments are of any type
    shape: torch.Size = arg.meta["val"].shape
    return shape


def _numel(arg: Any) -> int:  # noqa: ANN401  # fx arguments are of any type
    value = arg.meta["val"]
    value = value[0] if isinstance(value, tuple | list) else value
    return int(value.numel())


_COUNTS: dict[str, Callable[[Node], int]] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "conv_transpose1d": _transposed_convolution,
    "conv_transpose2d": _transposed_convolution,
    "conv_transpose3d": _transposed_convolution,
    "convolution": _either_convolution,
    "linear": _linear,
    "addmm": _linear,  # its left factor comes second as well, and its last size is what both factors share
    "baddbmm": _linear,
    "mm": _product,
    "bmm": _product,
    "matmul": _product,
    "mv": _product,
    "dot": _product,
    "scaled_dot_product_attention": _attention,
    "einsum": _einsum,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn_tanh": _recurrent,
    "rnn_relu": _recurrent,
}
