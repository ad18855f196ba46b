"""Permutations between two reshapes, in as few axes as they need."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
_RESHAPE = _ATEN.reshape.default
_TURNS = (_ATEN.permute.default, _ATEN.transpose.int)


def turn_few_axes(graph: GraphModule) -> None:
    """Take axes that a permutation leaves side by side as one, where reshapes stand on both sides of it.

    A shuffle of channels (Zhang et al., "ShuffleNet", 2018) is written on
    five axes: batch, group, channel, row, column. It swaps two, of three:
    group, channel, and a plane. Whole planes are then moved. On five axes
    ONNX Runtime merges the permutation with its own, from channels last, and
    moves number by number: ShuffleNetV2 took 1.26 times as long on x86.

    Before: views are written as reshapes
    (:func:`edgeq.quantize.rewrite.shapes.reduce_to_reshapes_and_slices`).
    After: no permutation between two reshapes has an axis of size one, or
    two axes that it leaves side by side.
    """
    for node in list(graph.graph.nodes):
        if node.target not in _TURNS:
            continue
        source, reader = node.args[0], next(iter(node.users))
        if source.target != _RESHAPE or reader.target != _RESHAPE or len(node.users) > 1:
            continue
        shape = list(source.meta["val"].shape)
        groups = _moved_together(_order(node, len(shape)), shape)
        if len(groups) == len(shape):
            continue
        merged = sorted(groups)
        sizes = [math.prod(shape[axis] for axis in group) for group in merged]
        few = call(graph, node, _RESHAPE, source.args[0], sizes)
        turned = call(graph, node, _ATEN.permute.default, few, [merged.index(group) for group in groups])
        replace(reader, call(graph, reader, _RESHAPE, turned, list(reader.meta["val"].shape)))


def _order(node: Node, rank: int) -> list[int]:
    """The axis of the input that each axis of the result is."""
    given: Any = node.args[1:]
    if node.target == _ATEN.permute.default:
        return [axis % rank for axis in given[0]]
    first, second = (axis % rank for axis in given)
    order = list(range(rank))
    order[first], order[second] = second, first
    return order


def _moved_together(order: Sequence[int], shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Runs of input axes that stay side by side, in the order of the result; axes of one stand nowhere."""
    groups: list[tuple[int, ...]] = []
    for axis in order:
        if shape[axis] == 1:
            continue
        previous = groups[-1][-1] if groups else None
        between = range(previous + 1, axis) if previous is not None else ()
        if previous is not None and previous < axis and all(shape[other] == 1 for other in between):
            groups[-1] = (*groups[-1], axis)
        else:
            groups.append((axis,))
    return groups
