"""The strided first convolution of an int8 program, in blocks of rows.

XNNPACK's int8 kernels sum over groups of channels: eight on x86 and on ARM
without dot products, four with them. An image has three channels; the rest
of each group are zeros. Two of its rows taken as six channels waste less,
and make half as many steps, the kernel filled up to whole blocks of rows
included. Moving whole rows costs less than the transpose of six channels
instead of three gains. Columns as well would waste as much again as they gain.

Measured: 7x7 to 64 channels of 224x224 takes 0.85 ms where it took 1.39 on a
Xeon with AVX512-VNNI, one thread, 3x3 to 32 channels 0.13 where it took 0.19.
ResNet-18 retires 527.0 M instructions on an A72 where it took 579.6, and
167.5 M on an A76 where it took 172.4; MobileNetV2 112.1 M for 115.9, and 51.2 M
for 51.3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from edgeq.lower.exported import ATEN, READ, STORE, state_names
from edgeq.quantize.rewrite.editing import call

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

_GROUP = 8
"""The larger of the two. Counted by fours nothing would be gained, but the half of the steps pays there as well."""
_WORTH = 0.8
"""Products, zeros counted, that may be left for the rows to be moved."""


def read_rows_as_channels(program: ExportedProgram) -> int:
    """Let a convolution that strides over the program's input read blocks of rows as channels; says how many do.

    Before: a program of ATen operators between pairs of quantize and
    dequantize nodes, whose tensors may be shared with another program (they
    are replaced, not changed). After: the results are the same, integer by
    integer, and no such convolution is left where this saves a fifth of the
    products, zeros counted.
    """
    found = [node for node in program.graph.nodes if node.target == ATEN.conv2d.default]
    changed = sum(_read_rows(program, node) for node in found)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return changed


def _read_rows(program: ExportedProgram, conv: Node) -> bool:
    read, (left, right, top) = _read_and_padding(conv)
    store, weight = _stored_input(read), _own_weight(program, conv)
    if store is None or weight is None:
        return False
    defaults: tuple[Any, ...] = (None, [1, 1], [0, 0], [1, 1], 1)
    given: tuple[Any, ...] = (*conv.args[2:], *defaults[len(conv.args) - 2 :])
    bias, (step, columns_step), padding, dilation, groups = given
    image: Any = store.args[0]
    count, channels, height, width = image.meta["val"].shape
    width += left + right
    outputs, _, kernel, columns = weight.meta["val"].shape
    blocks = math.ceil(kernel / step)
    if step == 1 or groups != 1 or dilation != [1, 1]:
        return False
    if blocks * _with_zeros(step * channels) > _WORTH * kernel * _with_zeros(channels):
        return False
    rows = int(conv.meta["val"].shape[2]) - 1 + blocks
    before = top + padding[0]
    after = rows * step - height - before
    if after < 0:  # the last rows are read by nobody
        return False
    graph = program.graph_module
    padded = call(graph, store, ATEN.constant_pad_nd.default, image, [left, right, before, after], 0.0)
    split = call(graph, store, ATEN.reshape.default, padded, [count, channels, rows, step, width])
    turned = call(graph, store, ATEN.permute.default, split, [0, 1, 3, 2, 4])
    blocked = call(graph, store, ATEN.reshape.default, turned, [count, channels * step, rows, width])
    store.replace_input_with(image, blocked)
    name = state_names(program)[weight.name]
    integers = torch.nn.functional.pad(program.state_dict[name], (0, 0, 0, blocks * step - kernel))
    integers = integers.reshape(outputs, channels, blocks, step, columns).permute(0, 1, 3, 2, 4)
    program.state_dict[name] = integers.reshape(outputs, -1, blocks, columns).contiguous()
    wide: Any = conv.args[1]
    for nodes, shape in (((store, read), blocked.meta["val"].shape), ((weight, wide), program.state_dict[name].shape)):
        for node in nodes:
            node.meta["val"] = node.meta["val"].new_empty(shape)
    conv.args = (read, wide, bias, [1, columns_step], [0, padding[1]], [1, 1], 1)
    return True


def _read_and_padding(conv: Node) -> tuple[Any, tuple[int, int, int]]:
    """What ``conv`` reads, and the zeros left, right and on top of it that stand in the graph between the two.

    Those below follow from the result's size.
    """
    read: Any = conv.args[0]
    if read.target == ATEN.constant_pad_nd.default and len(read.users) == 1 and not any(read.args[2:]):
        amounts = [*read.args[1], 0, 0]
        if len(read.args[1]) <= 4 and min(amounts) >= 0:  # noqa: PLR2004  # of the plane alone, and none cut off
            return read.args[0], (amounts[0], amounts[1], amounts[2])
    return read, (0, 0, 0)


def _stored_input(read: Any) -> Node | None:  # noqa: ANN401  # an argument of a node
    """The node that stores the program's input for ``read`` alone, which one layer alone reads."""
    store: Any = read.args[0] if read.target == READ and len(read.users) == 1 else None
    if store is None or store.target != STORE or len(store.users) > 1:
        return None
    image = store.args[0]
    return store if image.op == "placeholder" and image.meta["val"].ndim == 4 else None  # noqa: PLR2004  # an image


def _own_weight(program: ExportedProgram, conv: Node) -> Node | None:
    """The integers of the weight, if nobody else reads them."""
    read: Any = conv.args[1]
    if "dequantize" not in str(read.target) or len(read.users) > 1:
        return None
    stored: Node = read.args[0]
    alone = stored.op == "placeholder" and len(stored.users) == 1
    return stored if alone and state_names(program).get(stored.name) in program.state_dict else None


def _with_zeros(channels: int) -> int:
    return -(-channels // _GROUP) * _GROUP
