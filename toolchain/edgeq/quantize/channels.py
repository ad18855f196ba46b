"""Channels that can be scaled: what one part of a network multiplies them by, another divides out again.

A layer may make channel c of its result s_c times as large if whoever
reads it divides its weights for channel c by s_c. The two may be far apart,
as long as everything between them keeps channels apart and lets a positive
factor through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.fx import Node

from edgeq.quantize.attributes import constant, is_constant, new_constant
from edgeq.quantize.plan import LAYERS, TRANSPOSED
from edgeq.quantize.rewrite.activations import CLAMPS, clamp_bounds

if TYPE_CHECKING:
    from torch.fx import GraphModule

_ATEN = torch.ops.aten

_KEEPS = (
    *CLAMPS,
    _ATEN.leaky_relu.default,
    _ATEN.max_pool2d.default,
    _ATEN.avg_pool1d.default,
    _ATEN.avg_pool2d.default,
    _ATEN.adaptive_avg_pool1d.default,
    _ATEN.adaptive_avg_pool2d.default,
)
"""Operators that work on each channel by itself and let a positive factor through (clamps: see ``Channels.clamps``)."""

NORMS = (_ATEN.layer_norm.default, _ATEN.rms_norm.default)
_GROUPS = 6
"""Place of the number of groups among the arguments of every convolution."""


class Place(NamedTuple):
    """Where a tensor has its channels: along ``axis``, each ``repeat`` times in a row (a flattened image)."""

    axis: int
    repeat: int


@dataclass(kw_only=True)
class Channels:
    """Tensors with the same ``count`` channels, which can only be scaled together.

    ``sources`` make them and ``readers``, which are layers, read them;
    nothing else does.
    """

    count: int
    places: dict[Node, Place] = field(default_factory=dict)
    sources: list[Node] = field(default_factory=list)
    readers: list[Node] = field(default_factory=list)

    @property
    def clamps(self) -> list[Node]:
        """Tensors behind a clamp with a finite bound that is not 0: a factor changes what it cuts off."""
        return [node for node in self.places if node.target in CLAMPS and any(map(_fixed, clamp_bounds(node)))]

    def rescale(self, graph: GraphModule, factors: torch.Tensor) -> None:
        """Multiply channel c of every tensor by ``factors[c]`` > 0 (float64); the network gives what it gave before."""
        for source in self.sources:
            _scale_source(graph, source, factors)
        for reader in self.readers:
            weight = grouped(reader, constant(graph, reader.args[1]).double())  # type: ignore[arg-type]  # a layer
            groups, _, inputs, _ = weight.shape
            divisors = self.repeated(reader, factors).reshape(groups, 1, inputs, 1)
            _replace(graph, reader, 1, ungrouped(reader, weight / divisors))

    def repeated(self, reader: Node, values: torch.Tensor) -> torch.Tensor:
        """One value for each channel as one for each input of ``reader``."""
        return values.repeat_interleave(self.places[reader.args[0]].repeat)  # type: ignore[index]  # it reads a node

    def largest(self, tensor: Node, values: torch.Tensor) -> torch.Tensor:
        """The largest of the ``values`` that each channel has along the axis of ``tensor``."""
        return values.reshape(self.count, self.places[tensor].repeat).amax(dim=1)


def channels_of(source: Node) -> Channels | None:
    """All that has to be scaled if what ``source``, a layer or an affine norm, gives is; None if that cannot be."""
    axis = source.meta["val"].dim() - 1 if _is_norm(source) else channel_axis(source)
    channels = Channels(count=source.meta["val"].shape[axis])
    pending = [(source, Place(axis, 1))]
    while pending:
        node, place = pending.pop()
        if node in channels.places:
            if channels.places[node] != place:
                return None
            continue
        channels.places[node] = place
        around = _around(channels, node, place)
        if around is None:
            return None
        pending += around
    return channels if channels.readers else None


def channel_axis(layer: Node) -> int:
    """The axis of a layer's result that counts its channels."""
    return layer.meta["val"].dim() - 1 if layer.target == _ATEN.linear.default else 1


def has_constant_weights(node: Node) -> bool:
    """Whether ``node`` is a layer whose weight and bias are constants."""
    return (
        node.target in LAYERS
        and not is_constant(node.args[0])
        and not node.kwargs
        and all(arg is None or is_constant(arg) for arg in node.args[1:3])
    )


def grouped(layer: Node, weight: torch.Tensor) -> torch.Tensor:
    """A layer's ``weight`` as (groups, outputs of a group, inputs of a group, taps)."""
    groups: int = layer.args[_GROUPS] if len(layer.args) > _GROUPS else 1  # type: ignore[assignment]  # a number
    parts = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return parts.transpose(1, 2) if layer.target in TRANSPOSED else parts


def ungrouped(layer: Node, weight: torch.Tensor) -> torch.Tensor:
    """The weight that :func:`grouped` took apart, in the shape that ``layer`` reads."""
    shape = layer.args[1].meta["val"].shape  # type: ignore[union-attr]  # a layer's weight is a node
    return (weight.transpose(1, 2) if layer.target in TRANSPOSED else weight).reshape(shape)


def _around(channels: Channels, node: Node, place: Place) -> list[tuple[Node, Place]] | None:
    """The neighbours of ``node`` that have its channels; None if one of them cannot be scaled."""
    found: list[tuple[Node, Place]] = []
    if has_constant_weights(node) or _is_norm(node):
        channels.sources.append(node)
    else:
        origins: list[Any] = list(node.args[: 2 if node.target == _ATEN.add.Tensor else 1])
        unseen = [origin for origin in origins if origin not in channels.places]
        if unseen and _place_after(node, place) != place:
            return None
        found += [(origin, place) for origin in unseen]
    for user in node.users:
        if has_constant_weights(user) and user.args[0] is node and user.args[1] is not node:
            if place.axis != (node.meta["val"].dim() - 1 if user.target == _ATEN.linear.default else 1):
                return None
            channels.readers.append(user)
            continue
        after = _place_after(user, place)
        if after is None:
            return None
        found.append((user, after))
    return found


def _place_after(node: Node, place: Place) -> Place | None:
    """Where the channels are after ``node``, given where its input has them; None if it lets no factor through."""
    match node.target:
        case _ATEN.reshape.default:
            return _reshaped(node, place)
        case _ATEN.transpose.int | _ATEN.permute.default:
            return Place(_axis_after(node, place.axis), place.repeat)
        case _ATEN.mean.dim:
            return _averaged(node, place)
        case _ATEN.add.Tensor:
            keeps = _adds_equals(node)
        case _ATEN.constant_pad_nd.default:
            keeps = _pads_other_axes(node, place.axis)
        case _ATEN.slice.Tensor:
            keeps = place.axis not in _counted(node, node.args[1:2] or (0,))
        case target:
            keeps = target in _KEEPS
    return place if keeps else None


def _averaged(node: Node, place: Place) -> Place | None:
    gone = _counted(node, node.args[1])
    if place.axis in gone:
        return None
    kept_as_ones = list(node.args[2:]) == [True]
    return place if kept_as_ones else Place(place.axis - sum(axis < place.axis for axis in gone), place.repeat)


def _counted(node: Node, dims: Any) -> list[int]:  # noqa: ANN401  # an argument of a node
    """Axes of the input of ``node``, counted from the start."""
    return [int(dim) % node.args[0].meta["val"].dim() for dim in dims]  # type: ignore[union-attr]  # it reads a node


def _axis_after(node: Node, axis: int) -> int:
    dims = list(range(node.meta["val"].dim()))
    if node.target == _ATEN.transpose.int:
        first, second = (int(dim) for dim in node.args[1:3])  # type: ignore[arg-type]
        dims[first], dims[second] = dims[second], dims[first]
    else:
        dims = [dims[int(dim)] for dim in node.args[1]]  # type: ignore[union-attr, arg-type]
    return dims.index(axis)


def _reshaped(node: Node, place: Place) -> Place | None:
    """The axis that begins at the same place of memory and holds the channels, or they and all behind them."""
    before, after = node.args[0].meta["val"].shape, node.meta["val"].shape  # type: ignore[union-attr]
    for axis, length in enumerate(after):
        if math.prod(after[:axis]) != math.prod(before[: place.axis]):
            continue
        if length == before[place.axis]:
            return Place(axis, place.repeat)
        if length == math.prod(before[place.axis :]):
            return Place(axis, place.repeat * math.prod(before[place.axis + 1 :]))
    return None


def _adds_equals(node: Node) -> bool:
    shapes = [arg.meta["val"].shape for arg in node.args if isinstance(arg, Node) and not is_constant(arg)]
    return shapes == [node.meta["val"].shape] * 2 and not node.kwargs


def _pads_other_axes(node: Node, axis: int) -> bool:
    amounts: Any = node.args[1]
    padded = node.meta["val"].dim() - len(amounts) // 2
    return axis < padded and not any((*node.args[2:], 0)[:1])


def _is_norm(node: Node) -> bool:
    """Whether ``node`` normalizes along the last axis alone, with constants (or nothing) as weight and bias."""
    return (
        node.target in NORMS
        and len(node.args[1]) == 1  # type: ignore[arg-type]
        and all(not isinstance(arg, Node) or is_constant(arg) for arg in node.args[1:])
        and not node.kwargs
    )


def _fixed(bound: float) -> bool:
    return bound != 0.0 and math.isfinite(bound)


def _scale_source(graph: GraphModule, source: Node, factors: torch.Tensor) -> None:
    first = 2 if _is_norm(source) else 1
    weight: Any = (*source.args, None)[first] if len(source.args) > first else None
    if _is_norm(source):
        value = torch.ones_like(factors) if weight is None else constant(graph, weight).double()
        _replace(graph, source, first, value * factors)
    else:
        rows = grouped(source, constant(graph, weight).double())
        groups, outputs, _, _ = rows.shape
        _replace(graph, source, first, ungrouped(source, rows * factors.reshape(groups, outputs, 1, 1)))
    bias: Any = source.args[first + 1] if len(source.args) > first + 1 else None
    if isinstance(bias, Node):
        _replace(graph, source, first + 1, constant(graph, bias).double() * factors)


def _replace(graph: GraphModule, node: Node, index: int, value: torch.Tensor) -> None:
    """Give ``node`` a float32 constant of its own as argument ``index``; who shared the old one keeps it."""
    args = [*node.args, *[None] * (index + 1 - len(node.args))]
    args[index] = new_constant(graph, node, value.float())
    node.args = tuple(args)
