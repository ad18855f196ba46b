"""SmoothQuant: outliers of the activations that linear layers read move into the weights.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization
for Large Language Models" (ICML 2023), section 4. The tensor between a
layer norm and the linear layers behind it has one int8 scale; a few channels
a hundred times the size of the others, as the gains of layer norms often
have them, leave a handful of integers to the rest. Channel j is divided by
s_j = max|X_j|^alpha / max|W_j|^(1 - alpha) and column j of the weights
multiplied by it, which nothing in the result shows. The division goes into
whatever makes the tensor, so that no operator is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant
from edgeq.quantize.channels import NORMS, Channels, channels_of, has_constant_weights

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from edgeq.quantize.statistics import Statistics

_LINEAR = torch.ops.aten.linear.default

_FARTHEST = 2.0**16
"""Channels further apart than this are not brought together: the smallest are nothing but rounding errors."""


def smooth(graph: GraphModule, statistics: Statistics, *, alpha: float = 0.5) -> int:
    """Scale the channels that linear layers of the float ``graph`` read; return how many sets of channels were scaled.

    A set is scaled where all its readers are linear layers with constant
    weights (query, key and value share one) and all that makes it takes a
    factor for each channel: the gain and bias of a layer norm, the weights
    of a layer. ``alpha`` in [0, 1] says how much of the work goes to the
    weights: 0.5 leaves both the same spread. ``statistics`` are of the
    graph as it is; the changed one has to be calibrated again. The graph
    gives what it gave, up to float rounding.
    """
    changed = 0
    seen: set[Node] = set()
    with torch.no_grad():
        for source in list(graph.graph.nodes):
            if source in seen or not (source.target in NORMS or has_constant_weights(source)):
                continue
            channels = channels_of(source)
            if channels is None or channels.clamps or any(reader.target != _LINEAR for reader in channels.readers):
                continue
            seen.update(channels.sources)
            channels.rescale(graph, 1 / _divisors(graph, channels, statistics, alpha))
            changed += 1
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return changed


def _divisors(graph: GraphModule, channels: Channels, statistics: Statistics, alpha: float) -> torch.Tensor:
    """The s of the paper for each channel, float64; 1 for channels that are 0, or that nobody weighs."""
    activations = torch.zeros(channels.count, dtype=torch.float64)
    columns = torch.zeros(channels.count, dtype=torch.float64)
    for reader in channels.readers:
        source: Node = reader.args[0]  # type: ignore[assignment]  # a layer reads a node
        seen = statistics.of(source)
        assert seen.channel_minimum is not None  # noqa: S101  # calibration keeps the channels of what layers read
        assert seen.channel_maximum is not None  # noqa: S101  # the same
        extent = torch.maximum(seen.channel_minimum.abs(), seen.channel_maximum.abs()).double()
        weight = constant(graph, reader.args[1]).double().abs().amax(dim=0)  # type: ignore[arg-type]  # it is a layer
        activations = torch.maximum(activations, channels.largest(source, extent))
        columns = torch.maximum(columns, channels.largest(source, weight))
    live = (activations > 0) & (columns > 0)
    divisors = torch.where(live, activations**alpha / columns ** (1 - alpha), 1.0)
    # Only how channels compare matters: the largest keeps its size.
    divisors = divisors / divisors[live].max() if bool(live.any()) else divisors
    return torch.where(live, divisors.clamp(1 / _FARTHEST, _FARTHEST), 1.0)
