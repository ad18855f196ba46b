"""A scale for each channel of a result that only float operators read.

Bondarenko et al., "Understanding and Overcoming the Challenges of Efficient
Transformer Quantization" (EMNLP 2021): a few features of what a transformer
adds to its residual stream are a hundred times as large as the others, and
one int8 scale leaves nothing to those. Nobody reads such a result as
integers, so that its channels may have scales of their own: the rows of the
weight are divided by s_c, and a float product behind the layer multiplies
channel c by s_c again. It costs one product a value, which is little beside
the layer's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant, new_constant
from edgeq.quantize.channels import channel_axis, grouped, ungrouped
from edgeq.quantize.plan import plan_int8, unread_results
from edgeq.quantize.rewrite.editing import call

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from edgeq.quantize.statistics import Statistics, TensorStatistics

_WORTHWHILE_DB = 6.0
"""Noise that scales of their own have to take out of a result: one bit."""

_FARTHEST = 2.0**16


def even_results(graph: GraphModule, statistics: Statistics) -> int:
    """Even out the channels of results that only float operators of ``graph`` read; return how many results.

    Only where that takes at least 6 dB of noise out of a result.
    ``statistics`` are of the graph as it is; the changed one has to be
    calibrated again. The graph gives what it gave, up to float rounding.
    """
    changed = 0
    with torch.no_grad():
        for layer in unread_results(plan_int8(graph.graph)):
            extent = _extent(layer, statistics.of(layer))
            if extent is None or _gain_db(extent) < _WORTHWHILE_DB:
                continue
            factors = torch.where(extent > 0, extent / extent.max(), 1.0).clamp(min=1 / _FARTHEST)
            _divide(graph, layer, factors)
            _multiply_behind(graph, layer, factors)
            changed += 1
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return changed


def _extent(layer: Node, seen: TensorStatistics) -> torch.Tensor | None:
    """The largest magnitude of each channel, float64; None where calibration kept other channels than the layer's."""
    if seen.channel_axis != channel_axis(layer) or seen.channel_minimum is None or seen.channel_maximum is None:
        return None
    return torch.maximum(seen.channel_minimum.abs(), seen.channel_maximum.abs()).double()


def _gain_db(extent: torch.Tensor) -> float:
    """How far the noise of rounding falls: steps were as wide as the largest channel needs, in all channels."""
    mean = float(extent.square().mean())
    return 10 * math.log10(float(extent.max()) ** 2 / mean) if mean else 0.0


def _divide(graph: GraphModule, layer: Node, factors: torch.Tensor) -> None:
    source, weight, *rest = layer.args
    rows = grouped(layer, constant(graph, weight).double())  # type: ignore[arg-type]  # a layer of the plan
    rows = rows / factors.reshape(rows.shape[0], rows.shape[1], 1, 1)
    arguments = [source, new_constant(graph, layer, ungrouped(layer, rows).float()), *rest]
    if rest and rest[0] is not None:
        bias = constant(graph, rest[0]).double() / factors  # type: ignore[arg-type]  # the same
        arguments[2] = new_constant(graph, layer, bias.float())
    layer.args = tuple(arguments)


def _multiply_behind(graph: GraphModule, layer: Node, factors: torch.Tensor) -> None:
    shape = [1] * layer.meta["val"].dim()
    shape[channel_axis(layer)] = -1
    behind = layer.next
    scale = new_constant(graph, behind, factors.float().reshape(shape))
    product = call(graph, behind, torch.ops.aten.mul.Tensor, layer, scale)
    product.meta = dict(layer.meta)
    layer.replace_all_uses_with(product, delete_user_cb=lambda user: user is not product)
