"""Strided convolutions of one or two channels as convolutions of more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.attributes import constant, is_constant, new_constant
from edgeq.quantize.rewrite.editing import call

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
_GROUP = 8
"""So many channels are summed together by int8 kernels of a core without dot products (4 with them), some of zeros."""

_INTERLEAVED = [0, 1, 3, 5, 2, 4]
"""Puts the places inside a block of stride x stride behind the channels (space to depth)."""


def widen_thin_inputs(graph: GraphModule) -> None:
    """Let a convolution that strides over a thin input (a spectrogram, a grey image) read blocks as channels.

    Integer kernels sum over groups of channels, and compute with zeros where
    there are fewer: of one channel seven products in eight are wasted, and
    int8 is slower than float. A block of stride x stride values taken as
    that many channels is the same sum, with as many products, for a kernel
    whose size is a multiple of the stride (Shi et al. 2016, the inverse of
    their pixel shuffle).

    Before: padding stands in numbers and weights are constants. After: no
    such convolution is left where this halves the products with zeros
    counted; others stay as they are.
    """
    for node in list(graph.graph.nodes):
        if node.target == _ATEN.conv2d.default and not node.kwargs and is_constant(node.args[1]):
            _widen(graph, node)


def _widen(graph: GraphModule, conv: Node) -> None:
    source: Any = conv.args[0]
    weight = constant(graph, conv.args[1])  # type: ignore[arg-type]  # a constant
    defaults: tuple[Any, ...] = (None, [1, 1], [0, 0], [1, 1], 1)
    given: list[Any] = [*conv.args[2:], *defaults[len(conv.args) - 2 :]]
    bias, stride, padding, dilation, groups = given
    (step, other), before, kernel = _pair(stride), _pair(padding), list(weight.shape[2:])
    if step == 1 or step != other or _pair(dilation) != [1, 1] or groups != 1 or any(size % step for size in kernel):
        return
    channels = weight.shape[1]
    if 2 * _with_zeros(channels * step**2) > _with_zeros(channels) * step**2:
        return
    plane, result = source.meta["val"].shape[2:], conv.meta["val"].shape[2:]
    after = [
        (out - 1) * step + size - own - front
        for out, size, own, front in zip(result, kernel, plane, before, strict=True)
    ]
    if min(after) < 0:  # the last rows are read by nobody
        return
    if any((*before, *after)):
        sides = [before[1], after[1], before[0], after[0]]
        source = call(graph, conv, _ATEN.constant_pad_nd.default, source, sides, 0.0)
    shape = _in_blocks(source.meta["val"].shape, step)
    source = call(graph, conv, _ATEN.reshape.default, source, shape)
    source = call(graph, conv, _ATEN.permute.default, source, _INTERLEAVED)
    source = call(graph, conv, _ATEN.reshape.default, source, _as_channels(source.meta["val"].shape))
    blocks = weight.reshape(_in_blocks(weight.shape, step)).permute(_INTERLEAVED)
    wide = new_constant(graph, conv, blocks.reshape(_as_channels(blocks.shape)).contiguous())
    conv.args = (source, wide, bias, [1, 1], [0, 0], [1, 1], 1)


def _with_zeros(channels: int) -> int:
    return -(-channels // _GROUP) * _GROUP


def _in_blocks(shape: torch.Size, step: int) -> list[int]:
    count, channels, height, width = shape
    return [count, channels, height // step, step, width // step, step]


def _as_channels(shape: torch.Size) -> list[int]:
    count, channels, rows, columns, height, width = shape
    return [count, channels * rows * columns, height, width]


def _pair(value: Any) -> list[int]:  # noqa: ANN401  # ATen takes one number for both dimensions
    return [value, value] if isinstance(value, int) else list(value) * (2 // len(value))
