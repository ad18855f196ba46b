"""Operators that only look at their input in another shape become ``reshape`` and ``slice``."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.rewrite.editing import call, replace

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
_VIEWS = (
    _ATEN.unsqueeze.default,
    _ATEN.squeeze.default,
    _ATEN.squeeze.dim,
    _ATEN.squeeze.dims,
    _ATEN.flatten.using_ints,
    _ATEN.unflatten.int,
    _ATEN.reshape.default,
    _ATEN.view.default,
    _ATEN._unsafe_view.default,  # noqa: SLF001  # the operator's public name
)
_SPLITS = (_ATEN.split.Tensor, _ATEN.split_with_sizes.default, _ATEN.chunk.default, _ATEN.unbind.int)


def reduce_to_reshapes_and_slices(graph: GraphModule) -> None:
    """Write squeeze, unsqueeze, flatten and select as ``reshape``, and split, chunk and unbind as slices.

    XNNPACK takes ``reshape`` and ``slice`` of any dimension and not the
    others, which would cut a partition in two. ``view`` goes as well: it
    asks for strides that a rewrite may have changed.

    Before: it is the last rewrite, as others write squeeze and unsqueeze.
    After: no float tensor is viewed, squeezed, flattened, selected from or
    split by another name, unless the parts of a split go elsewhere than to
    a getitem.
    """
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or not node.args or not _is_float(node.args[0]):
            continue
        if node.target in _VIEWS:
            replace(node, call(graph, node, _ATEN.reshape.default, node.args[0], list(node.meta["val"].shape)))
        elif node.target == _ATEN.select.int:
            replace(node, _taken(graph, node, node.args[0], node.args[1], node.args[2], list(node.meta["val"].shape)))
        elif node.target in _SPLITS:
            _slice_up(graph, node)


def _slice_up(graph: GraphModule, split: Node) -> None:
    source: Any = split.args[0]
    position = 1 if split.target == _ATEN.unbind.int else 2
    dim: Any = split.args[position] if len(split.args) > position else split.kwargs.get("dim", 0)
    dim %= source.meta["val"].dim()
    parts = [value.shape for value in split.meta["val"]]
    for part in list(split.users):
        index: Any = part.args[1]
        if part.target is not operator.getitem or not isinstance(index, int):
            return
        if split.target == _ATEN.unbind.int:
            replace(part, _taken(graph, part, source, dim, index, list(parts[index])))
        else:
            start = sum(shape[dim] for shape in parts[:index])
            replace(part, call(graph, part, _ATEN.slice.Tensor, source, dim, start, start + parts[index][dim]))


def _taken(graph: GraphModule, like: Node, source: Any, dim: Any, index: Any, shape: list[int]) -> Node:  # noqa: ANN401, PLR0913, PLR0917  # arguments of a node
    """One position of ``dim``, without that dimension."""
    size = source.meta["val"].shape[dim]
    start = index % size
    one = call(graph, like, _ATEN.slice.Tensor, source, dim, start, start + 1)
    return call(graph, like, _ATEN.reshape.default, one, shape)


def _is_float(source: Any) -> bool:  # noqa: ANN401  # an argument of a node
    value = source.meta.get("val") if isinstance(source, torch.fx.Node) else None
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32
