"""Bias correction: rounding a weight shifts the mean of a layer's output; the bias takes the shift back.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction" (ICCV 2019), section 4.2, with the means observed instead of
assumed. A layer is linear, so that the mean error over all samples is the
layer applied to the mean input and the rounding error of the weights;
padding and borders come out right without approximation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.attributes import constant, new_constant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import GraphModule, Node

    from edgeq.quantize.scheme import Scheme
    from edgeq.quantize.statistics import Statistics


def correct_biases(
    graph: GraphModule, scheme: Scheme, statistics: Statistics, *, former: Mapping[Node, torch.Tensor] | None = None
) -> None:
    """Change the bias of every layer that is about to be quantized; a layer without one gets one.

    ``former`` are the weights by layer of those that were rounded before.
    """
    with torch.no_grad():
        for layer in scheme.weights:
            weight = constant(graph, layer.args[1])  # type: ignore[arg-type]  # a layer of the plan has constant weights
            error = scheme.rounded(layer, weight) - (former or {}).get(layer, weight)
            _correct(graph, layer, error, statistics)
    graph.recompile()


def _correct(graph: GraphModule, layer: Node, error: torch.Tensor, statistics: Statistics) -> None:
    source, weight_node, *rest = layer.args
    bias: Any = rest[0] if rest else None
    mean = statistics.of(source).mean  # type: ignore[arg-type]  # a layer reads a node
    shift = layer.target(mean, error, None, *rest[1:])  # type: ignore[operator]  # an ATen layer
    channels = -1 if layer.target == torch.ops.aten.linear.default else 1
    shift = shift.transpose(0, channels).flatten(1).mean(dim=1)
    corrected = -shift if bias is None else constant(graph, bias) - shift
    layer.args = (source, weight_node, new_constant(graph, layer, corrected), *rest[1:])
