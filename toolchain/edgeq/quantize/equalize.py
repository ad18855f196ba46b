"""Cross-layer equalization: scale channels between layers until int8 serves all of them.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction" (ICCV 2019), section 4.1. With x the channels between two
layers, s x and W / s give what x and W give. Two things change with s: the
range that a channel takes up of the scale which all of the tensor share,
and the range that its column takes up of the consumer's weights. The noise
of either in the result falls with s what the noise of the other rises, and
both are least together where they are in balance: s = sqrt(b / a), with a
and b the ranges of a channel and of its column, as shares of the largest.
(The paper has no activations and balances b with the weights that produce
the channel. Those matter here too where a whole weight tensor has one scale.
With a scale for each output channel they are free, as are the weights of a
depthwise consumer, which then leaves activations as the only concern.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant
from edgeq.quantize.channels import Channels, channels_of, grouped, has_constant_weights

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from edgeq.quantize.statistics import Statistics

_HEADROOM = 1.5
"""How far below the largest value of its tensor a channel that is scaled up stays at least.

Calibration knows less of one channel than of a tensor: samples to come may
go beyond what it saw.
"""

_ROUNDS = 8
_FARTHEST = 2.0**16
"""Channels further apart than this are not brought together: the smallest are nothing but rounding errors."""


def equalize(graph: GraphModule, statistics: Statistics, *, per_channel: bool = True) -> int:
    """Scale channels between the layers of the float ``graph``; return how many sets of channels were scaled.

    ``statistics`` are of the graph as it is; the changed one has to be
    calibrated again. ``per_channel`` says whether each output channel of a
    weight will have a scale of its own. The graph gives what it gave, up to
    float rounding. That is why channels are left alone around a clamp with a
    bound other than 0, such as ReLU6: it would cut off something else of a
    scaled channel. To scale up only what stays far below it is not enough:
    on EfficientNet-Lite0, with eight times the largest value seen in 64
    photos still passing, other photos differed by 34 dB in float.
    """
    changed = 0
    seen: set[Node] = set()
    with torch.no_grad():
        for source in list(graph.graph.nodes):
            if source in seen or not has_constant_weights(source):
                continue
            channels = channels_of(source)
            if channels is None or channels.clamps or not all(map(has_constant_weights, channels.sources)):
                continue
            seen.update(channels.sources)
            factors = _factors(graph, channels, statistics, per_channel=per_channel)
            if factors is not None and not bool((factors == 1.0).all()):
                channels.rescale(graph, factors)
                changed += 1
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return changed


def _factors(
    graph: GraphModule, channels: Channels, statistics: Statistics, *, per_channel: bool
) -> torch.Tensor | None:
    """A factor > 0 for each channel; None where calibration did not see enough to tell."""
    shares = [
        _shares(extent) for tensor in channels.places if (extent := _extent(channels, tensor, statistics)) is not None
    ]
    if not shares:
        return None
    activations = torch.stack(shares).amax(dim=0)
    if not bool((activations > 0).any()):
        return None
    above = activations if per_channel else torch.maximum(activations, _rows(graph, channels))
    factors = _balanced(graph, channels, above, per_channel=per_channel)
    # The largest channel stays where it is, and with it the range of the tensor.
    factors = factors / (factors * activations).max()
    factors = factors.clamp(1 / _FARTHEST, _FARTHEST)
    return torch.minimum(factors, torch.clamp(1 / (_HEADROOM * activations), min=1.0))


def _balanced(graph: GraphModule, channels: Channels, above: torch.Tensor, *, per_channel: bool) -> torch.Tensor:
    """The factors that leave no channel a larger share ``above`` than in the weights that read it, or the reverse.

    Shares of a row change with the row's largest weight, so that balance
    is found step by step. A channel that calibration saw nothing of, or that
    nobody reads, cannot be balanced; it is made no larger than the others,
    whose scale it must not set.
    """
    factors = torch.ones_like(above)
    for _ in range(_ROUNDS):
        below = _columns(graph, channels, factors, per_channel=per_channel)
        if below is None:
            return torch.where(above > 0, 1 / above, 1.0)
        scaled = above * factors
        live = (above > 0) & (below > 0)
        if not bool(live.any()):
            return torch.ones_like(above)
        changes = torch.where(live, torch.sqrt(below / scaled), 1.0)
        changes = torch.where((above == 0) & (below > 0), below / below[live].max(), changes)
        changes = torch.where((above > 0) & (below == 0), scaled[live].max() / scaled, changes)
        factors = factors * changes
        factors = factors / factors[live].max()
    return factors


def _shares(extent: torch.Tensor) -> torch.Tensor:
    """Of the largest one."""
    return extent / extent.max().clamp(min=torch.finfo(torch.float64).tiny)


def _extent(channels: Channels, tensor: Node, statistics: Statistics) -> torch.Tensor | None:
    """The largest magnitude that calibration saw in each channel of ``tensor``, float64."""
    seen = statistics.tensors.get(tensor.name)
    place = channels.places[tensor]
    if seen is None or seen.channel_minimum is None or seen.channel_maximum is None:
        return None
    if seen.channel_axis != place.axis:
        return None
    extent = torch.maximum(seen.channel_minimum.abs(), seen.channel_maximum.abs())
    return channels.largest(tensor, extent.double())


def _columns(
    graph: GraphModule, channels: Channels, factors: torch.Tensor, *, per_channel: bool
) -> torch.Tensor | None:
    """The largest share of each channel of a scale of the weights that read it, which are divided by ``factors``.

    None if no channel shares a scale with another.
    """
    found = []
    for reader in channels.readers:
        weight = grouped(reader, constant(graph, reader.args[1]).double()).abs().amax(dim=3)  # type: ignore[arg-type]
        if per_channel and weight.shape[2] == 1:
            continue
        divisors = channels.repeated(reader, factors).reshape(len(weight), 1, -1)
        weight = weight / divisors
        largest = weight.amax(dim=2, keepdim=True) if per_channel else weight.max()
        shares = weight / largest.clamp(min=torch.finfo(torch.float64).tiny)
        found.append(channels.largest(reader.args[0], shares.amax(dim=1).flatten()))  # type: ignore[arg-type]
    return torch.stack(found).amax(dim=0) if found else None


def _rows(graph: GraphModule, channels: Channels) -> torch.Tensor:
    """The share that each channel has of the scale of the weights that produce it."""
    weights = (grouped(source, constant(graph, source.args[1]).double()) for source in channels.sources)  # type: ignore[arg-type]
    return torch.stack([_shares(weight.abs().amax(dim=(2, 3)).flatten()) for weight in weights]).amax(dim=0)
