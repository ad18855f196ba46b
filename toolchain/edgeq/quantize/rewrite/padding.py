"""Zero padding that a convolution can do itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
_CONVOLUTIONS = {_ATEN.conv1d.default: 1, _ATEN.conv2d.default: 2}
_SAME_OR_VALID = {_ATEN.conv1d.padding: _ATEN.conv1d.default, _ATEN.conv2d.padding: _ATEN.conv2d.default}


def fold_padding(graph: GraphModule) -> None:
    """Write padding as numbers of the convolution where it is the same on both sides.

    ``padding="same"`` becomes numbers, with a pad node before the
    convolution where one side needs more. A pad node with equal sides
    disappears into each convolution that reads it. Unequal sides stay: the
    XNNPACK convolution of ExecuTorch knows only equal ones, and both
    runtimes fold a pad node in front of a convolution later.

    Before: batch norms are folded. After: no convolution names its padding,
    and none reads zeros that stand equally on both sides.
    """
    for node in list(graph.graph.nodes):
        if node.target == _ATEN.pad.default and _is_constant_mode(node):
            value = node.args[3] if len(node.args) > 3 else None  # noqa: PLR2004  # input, amounts, mode, value
            node.target, node.args = _ATEN.constant_pad_nd.default, (*node.args[:2], 0.0 if value is None else value)
        if node.target in _SAME_OR_VALID:
            _in_numbers(graph, node)
    for node in list(graph.graph.nodes):
        if node.target in _CONVOLUTIONS:
            _take_in(node)


def _is_constant_mode(pad: Node) -> bool:
    return not pad.kwargs and (len(pad.args) < 3 or pad.args[2] == "constant")  # noqa: PLR2004  # input, amounts, mode


def _in_numbers(graph: GraphModule, conv: Node) -> None:
    source, weight = conv.args[0], conv.args[1]
    kernel = weight.meta["val"].shape[2:]  # type: ignore[union-attr]  # a convolution reads nodes
    defaults: tuple[Any, ...] = (None, [1] * len(kernel), "valid", [1] * len(kernel), 1)
    given: list[Any] = [*conv.args[2:], *defaults[len(conv.args) - 2 :]]
    bias, stride, mode, dilation, groups = given
    total = [
        step * (size - 1) if mode == "same" else 0 for step, size in zip(_each(dilation, kernel), kernel, strict=True)
    ]
    symmetric = [amount // 2 for amount in total]
    if any(amount % 2 for amount in total):
        sides = [side for amount in reversed(total) for side in (0, amount % 2)]
        with graph.graph.inserting_before(conv):
            padded = graph.graph.call_function(_ATEN.constant_pad_nd.default, (source, sides, 0.0))
        padded.meta = dict(conv.meta)
        padded.meta["val"] = _ATEN.constant_pad_nd.default(source.meta["val"], sides, 0.0)  # type: ignore[union-attr]
        source = padded
    conv.target = _SAME_OR_VALID[conv.target]  # type: ignore[index]
    conv.args = (source, weight, bias, stride, symmetric, dilation, groups)


def _take_in(conv: Node) -> None:
    pad = conv.args[0]
    if not isinstance(pad, torch.fx.Node) or pad.target != _ATEN.constant_pad_nd.default:
        return
    spatial = _CONVOLUTIONS[conv.target]  # type: ignore[index]
    amounts = list(pad.args[1])  # type: ignore[arg-type]
    value = pad.args[2] if len(pad.args) > 2 else 0.0  # noqa: PLR2004  # input, amounts, value
    amounts += [0] * (2 * spatial - len(amounts))
    sides = [(amounts[2 * i], amounts[2 * i + 1]) for i in range(len(amounts) // 2)]
    inner, outer = sides[:spatial], sides[spatial:]
    if value != 0 or any(a != b or a < 0 for a, b in inner) or any(side != (0, 0) for side in outer):
        return
    defaults: tuple[Any, ...] = (None, [1] * spatial, [0] * spatial)
    given: list[Any] = [*conv.args[2:5], *defaults[len(conv.args[2:5]) :]]
    bias, stride, padding = given
    more = [amount for amount, _ in reversed(inner)]
    summed = [own + extra for own, extra in zip(_each(padding, more), more, strict=True)]
    conv.args = (pad.args[0], conv.args[1], bias, stride, summed, *conv.args[5:])


def _each(value: Any, like: Any) -> list[int]:  # noqa: ANN401  # ATen takes one number for all dimensions
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers * len(like) if len(numbers) == 1 else numbers
