"""The plan of :mod:`edgeq.quantize.plan` in the words of PT2E."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.observer import ActivationObserver, WeightObserver
from edgeq.quantize.plan import TRANSPOSED, Operation, Plan, plan_int8, readers
from edgeq.quantize.pt2e import QuantizationAnnotation, QuantizationSpec, Quantizer, SharedQuantizationSpec
from edgeq.quantize.rewrite.activations import CLAMPS, clamp_bounds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import GraphModule, Node

_ANNOTATION = "quantization_annotation"


class Int8Quantizer(Quantizer):  # type: ignore[misc]  # torchao is not typed
    """Annotates a simplified float graph for static int8.

    ``per_channel`` gives each output channel of a weight a scale of its own.
    """

    def __init__(self, *, per_channel: bool) -> None:
        super().__init__()
        self._per_channel = per_channel

    def annotate(self, model: GraphModule) -> GraphModule:
        """Say for every tensor that becomes int8 how it is observed; other nodes are left alone."""
        plan = plan_int8(model.graph)
        first_reader = {tensor: found[0].reader for tensor, found in readers(plan.operations).items()}
        # torchao refers to a tensor by the node that stores it, or by the edge to a reader.
        place = {tensor: tensor if tensor in plan.stored else (tensor, first_reader[tensor]) for tensor in plan.leader}
        for operation in plan.operations:
            for tensor in operation.inputs:
                spec = _spec(tensor, plan, place, at=(tensor, operation.reader))
                _annotation(operation.reader).input_qspec_map[tensor] = spec
            output = operation.output
            _annotation(output).output_qspec = _spec(output, plan, place, at=output)
            if operation.kind == "layer":
                self._annotate_weight(operation)
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: the plan holds only what both runtimes take."""

    def _annotate_weight(self, operation: Operation) -> None:
        layer = operation.node
        transposed = layer.target in TRANSPOSED
        grouped = transposed and len(layer.args) > 6 and layer.args[6] != 1  # noqa: PLR2004  # groups come seventh
        # XNNPACK has no per-channel kernel for grouped transposed convolutions.
        per_channel = self._per_channel and not grouped
        _annotation(layer).input_qspec_map[layer.args[1]] = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-127,  # symmetric: both runtimes take a zero point of 0 for weights
            quant_max=127,
            qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
            ch_axis=1 if transposed else 0,
            observer_or_fake_quant_ctr=WeightObserver.with_args(
                channel_axis=(1 if transposed else 0) if per_channel else None
            ),
        )


def _spec(
    tensor: Node, plan: Plan, place: Mapping[Node, object], *, at: object
) -> QuantizationSpec | SharedQuantizationSpec:
    """A spec of its own for the first place of a scale, a reference to that place for all others."""
    leader = plan.leader[tensor]
    if place[leader] != at:
        return SharedQuantizationSpec(place[leader])
    bounds = clamp_bounds(leader) if leader.target in CLAMPS else None
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=ActivationObserver.with_args(bounds=bounds, extremes=leader in plan.results),
    )


def _annotation(node: Node) -> QuantizationAnnotation:
    if _ANNOTATION not in node.meta:
        node.meta[_ANNOTATION] = QuantizationAnnotation(_annotated=True)
    return node.meta[_ANNOTATION]
