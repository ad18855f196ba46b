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
from edgeq.quantize.observer import WeightObserver
from edgeq.quantize.plan import LAYERS

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


class MeanInputs(torch.fx.Interpreter):
    """Runs a prepared graph sample by sample and keeps the mean of what every layer reads."""

    def __init__(self, prepared: GraphModule) -> None:
        super().__init__(prepared)
        self._layer_inputs = {node.args[0] for node in prepared.graph.nodes if node.target in LAYERS}
        self._sums: dict[Node, torch.Tensor] = {}
        self._samples = 0

    def run_node(self, n: Node) -> Any:  # noqa: ANN401  # a node gives whatever its operator gives
        """Run one node and add its result up if a layer reads it."""
        result = super().run_node(n)
        if n in self._layer_inputs:
            if n in self._sums:
                self._sums[n] += result
            else:
                self._sums[n] = result.clone()
        return result

    def observe(self, inputs: tuple[torch.Tensor, ...]) -> None:
        """Run the graph for one sample."""
        self.run(*inputs)
        self._samples += 1

    def mean(self, node: Node) -> torch.Tensor:
        """The mean of what ``node`` gave over all samples, in its own shape."""
        return self._sums[node] / self._samples


def correct_biases(prepared: GraphModule, means: MeanInputs) -> None:
    """Change the bias of every layer that is about to be quantized; a layer without one gets one."""
    with torch.no_grad():
        for layer in list(prepared.graph.nodes):
            if layer.target not in LAYERS:
                continue
            weight_node: Any = layer.args[1]
            if weight_node.op != "call_module":
                continue
            observer = prepared.get_submodule(str(weight_node.target))
            if isinstance(observer, WeightObserver):
                _correct(prepared, layer, constant(prepared, weight_node.args[0]), observer, means)
    prepared.recompile()


def _correct(
    prepared: GraphModule, layer: Node, weight: torch.Tensor, observer: WeightObserver, means: MeanInputs
) -> None:
    source, _, *rest = layer.args
    bias: Any = rest[0] if rest else None
    error = observer.rounded(weight) - weight
    shift = layer.target(means.mean(source), error, None, *rest[1:])  # type: ignore[arg-type, operator]  # an ATen layer
    channels = -1 if layer.target == torch.ops.aten.linear.default else 1
    shift = shift.transpose(0, channels).flatten(1).mean(dim=1)
    corrected = -shift if bias is None else constant(prepared, bias) - shift
    layer.args = (source, layer.args[1], new_constant(prepared, layer, corrected), *rest[1:])
