"""The numbers of a quantization: a scale and a zero point for every int8 tensor, scales for every weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.fx import Node

from edgeq.quantize.attributes import constant
from edgeq.quantize.observers import RANGES
from edgeq.quantize.plan import TRANSPOSED, Operation, Plan
from edgeq.quantize.rewrite.activations import CLAMPS, clamp_bounds
from edgeq.quantize.saturation import useful_bounds

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from edgeq.quantize.statistics import Statistics, TensorStatistics
    from edgeq.recipe import Recipe

SMALLEST_SCALE = 2.0**-100
"""Far from float32's subnormal numbers, which XNNPACK refuses, and small enough for any real tensor."""

LOWEST, HIGHEST = -128, 127
WEIGHT_LIMIT = 127
"""Weights are symmetric: both runtimes take a zero point of 0 for them."""

_LARGEST_BIAS = 2.0**30
"""Half of int32's range; the other half is for the products summed onto the bias."""

_LARGEST_RATIO = 128.0
"""XNNPACK refuses input scale x weight scale >= 256 x output scale."""


@dataclass(frozen=True, kw_only=True)
class Affine:
    """An int8 tensor stands for ``scale * (integer - zero_point)``; ``scale`` is a float32 number."""

    scale: float
    zero_point: int

    def rounded(self, values: torch.Tensor) -> torch.Tensor:
        """``values`` as their integers stand for them."""
        integers = torch.clamp(torch.round(values * (1.0 / self.scale)) + self.zero_point, LOWEST, HIGHEST)
        return (integers - self.zero_point) * self.scale


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Every number that makes the int8 graph of a ``plan``.

    ``activations`` are by the leader of those that share a scale;
    ``weights`` by layer: float32 of shape (output channels,), or (1,) where
    the whole weight has one scale. ``originals`` are the weight and the bias
    (None: it had none) of each layer in float, from before anything was done
    to make up for rounding: :mod:`edgeq.quantize.simulate` compares with them.
    """

    plan: Plan
    activations: Mapping[Node, Affine]
    weights: Mapping[Node, torch.Tensor]
    originals: Mapping[Node, tuple[torch.Tensor, torch.Tensor | None]]

    def affine(self, tensor: Node) -> Affine:
        """What the integers of an int8 tensor of the plan stand for."""
        return self.activations[self.plan.leader[tensor]]

    def rounded(self, layer: Node, weight: torch.Tensor) -> torch.Tensor:
        """The ``weight`` of ``layer`` as its integers will stand for it."""
        scale = self.weight_scale(layer, weight)
        integers = torch.clamp(torch.round(weight * (1.0 / scale)), -WEIGHT_LIMIT, WEIGHT_LIMIT)
        return integers * scale

    def weight_scale(self, layer: Node, weight: torch.Tensor) -> torch.Tensor:
        """The scales of ``layer`` in a shape that multiplies its ``weight``."""
        scale = self.weights[layer]
        shape = [1] * weight.dim()
        shape[output_axis(layer)] = scale.numel()
        return scale.reshape(shape)


def settle(
    graph: GraphModule,
    plan: Plan,
    statistics: Statistics,
    recipe: Recipe,
    *,
    learned: Mapping[str, tuple[float, float]] | None = None,
) -> Scheme:
    """Choose every scale and zero point by the rules of ``recipe`` from what calibration saw.

    Scales that are too small to compute with are raised. A bias is an int32
    in units of input scale x weight scale: a channel whose weights are
    nearly zero would not hold it. ExecuTorch's own flow avoids that with a
    lower limit of 2**-12 on every scale, which costs ordinary channels
    their precision; here only the channels that need it are raised.

    ``learned`` are ranges that training has settled, by the name of their
    leader; weights have fitted themselves to those, and they stay.
    """
    ranges = _ranges(plan, statistics, recipe)
    ranges = {leader: (learned or {}).get(leader.name, ends) for leader, ends in ranges.items()}
    activations = {leader: _affine(ends, symmetric=recipe.symmetric) for leader, ends in ranges.items()}
    weights = {}
    for operation in plan.operations:
        if operation.kind != "layer":
            continue
        source, output = plan.leader[operation.inputs[0]], plan.leader[operation.output]
        scale = _weight_scale(graph, operation, activations[source].scale, per_channel=recipe.per_channel)
        weights[operation.node] = scale
        smallest = float(scale.max()) * activations[source].scale / _LARGEST_RATIO
        activations[output] = _affine(
            ranges[output], symmetric=recipe.symmetric, smallest=max(smallest, activations[output].scale)
        )
    originals = {layer: _constants(graph, layer) for layer in weights}
    return Scheme(plan=plan, activations=activations, weights=weights, originals=originals)


def output_axis(layer: Node) -> int:
    """The axis of a layer's weight that counts output channels."""
    return 1 if layer.target in TRANSPOSED else 0


def _ranges(plan: Plan, statistics: Statistics, recipe: Recipe) -> dict[Node, tuple[float, float]]:
    members: dict[Node, list[Node]] = {}
    for tensor, leader in plan.leader.items():
        members.setdefault(leader, []).append(tensor)
    found = {}
    for leader, tensors in members.items():
        first, *others = (statistics.of(tensor) for tensor in tensors)
        seen = first.merged(*others) if others else first
        if leader not in plan.results:
            seen = seen.clamped(*useful_bounds(*tensors))
        found[leader] = _range(leader, seen, plan, recipe)
    return found


def _range(leader: Node, seen: TensorStatistics, plan: Plan, recipe: Recipe) -> tuple[float, float]:
    """From the smallest to the largest value that int8 shall stand for; 0 lies between.

    A tensor that was zero throughout takes the bounds of its clamp. One
    that results are read from keeps all it showed: its largest values are
    what the reader looks for.
    """
    if seen.minimum == seen.maximum:
        low, high = clamp_bounds(leader) if leader.target in CLAMPS else (0.0, math.inf)
        return (min(low, 0.0), max(high, 0.0)) if math.isfinite(low) and math.isfinite(high) else (0.0, 1.0)
    if leader in plan.results:
        return seen.minimum, seen.maximum
    return RANGES[recipe.observer](seen, HIGHEST - LOWEST)


def _affine(ends: tuple[float, float], *, symmetric: bool, smallest: float = SMALLEST_SCALE) -> Affine:
    """Scale and zero point of a range; zero itself is always exact."""
    low, high = ends
    if symmetric:
        scale = max(-low, high) / HIGHEST
        return Affine(scale=_float32(max(scale, smallest)), zero_point=0)
    scale = _float32(max((high - low) / (HIGHEST - LOWEST), smallest))
    return Affine(scale=scale, zero_point=min(max(LOWEST - round(low / scale), LOWEST), HIGHEST))


def _weight_scale(graph: GraphModule, operation: Operation, input_scale: float, *, per_channel: bool) -> torch.Tensor:
    """The largest magnitude over 127, for each output channel or over all."""
    layer = operation.node
    weight = constant(graph, layer.args[1]).abs()  # type: ignore[arg-type]  # a layer of the plan has constant weights
    grouped = layer.target in TRANSPOSED and len(layer.args) > 6 and layer.args[6] != 1  # noqa: PLR2004  # groups come seventh
    # XNNPACK has no per-channel kernel for grouped transposed convolutions.
    whole = grouped or not per_channel
    axis = output_axis(layer)
    magnitude = weight.amax().reshape(1) if whole else weight.transpose(0, axis).flatten(1).amax(dim=1)
    scale = torch.clamp(magnitude / WEIGHT_LIMIT, min=SMALLEST_SCALE)
    if len(layer.args) > 2 and layer.args[2] is not None:  # noqa: PLR2004  # input, weight, bias
        needed = constant(graph, layer.args[2]).abs() / (input_scale * _LARGEST_BIAS)  # type: ignore[arg-type]
        scale = torch.maximum(scale, needed.max().reshape(1) if whole else needed)
    return scale


def _constants(graph: GraphModule, layer: Node) -> tuple[torch.Tensor, torch.Tensor | None]:
    weight, bias = (*layer.args[1:3], None)[:2]
    return constant(graph, weight), None if bias is None else constant(graph, bias)  # type: ignore[arg-type]


def _float32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))
