"""From a scheme to a graph with quantize and dequantize nodes, in the words of PT2E."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.plan import Operation, readers
from edgeq.quantize.pt2e import (
    ObserverBase,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
    convert_pt2e,
    prepare_pt2e,
)
from edgeq.quantize.scheme import HIGHEST, LOWEST, WEIGHT_LIMIT, output_axis
from edgeq.quantize.tidy import tidy
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import GraphModule, Node

    from edgeq.quantize.scheme import Scheme

_ANNOTATION = "quantization_annotation"


def emit(graph: GraphModule, scheme: Scheme) -> GraphModule:
    """Turn the float ``graph``, which is consumed, into one with int8 weights and pairs of quantize and dequantize."""
    with quietly():
        prepared = prepare_pt2e(graph, _SchemeQuantizer(scheme))
        converted: GraphModule = convert_pt2e(prepared)
    tidy(converted)
    return converted


class _Settled(ObserverBase):  # type: ignore[misc]  # torchao is not typed
    """Stands where PT2E wants an observer, and has nothing left to observe."""

    def __init__(  # noqa: PLR0913  # torchao passes every field of its spec
        self,
        *,
        dtype: torch.dtype,
        quant_min: int,
        quant_max: int,
        qscheme: torch.qscheme,
        scale: torch.Tensor,
        zero_point: int,
        ch_axis: int = -1,
        is_dynamic: bool = False,
    ) -> None:
        super().__init__(dtype=dtype, is_dynamic=is_dynamic)
        self.quant_min = quant_min
        self.quant_max = quant_max
        self.qscheme = qscheme
        self.ch_axis = ch_axis
        self._scale = scale
        self._zero_point = zero_point

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` as it is."""
        return x

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scales (float32) and zero points (int64), of one shape."""
        return self._scale, torch.full_like(self._scale, self._zero_point, dtype=torch.int64)


class _SchemeQuantizer(Quantizer):  # type: ignore[misc]  # torchao is not typed
    """Annotates a simplified float graph with the numbers of a scheme."""

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self._scheme = scheme

    def annotate(self, model: GraphModule) -> GraphModule:
        """Say for every tensor that becomes int8 with which numbers; other nodes are left alone."""
        plan = self._scheme.plan
        first_reader = {tensor: found[0].reader for tensor, found in readers(plan.operations).items()}
        # torchao refers to a tensor by the node that stores it, or by the edge to a reader.
        place = {tensor: tensor if tensor in plan.stored else (tensor, first_reader[tensor]) for tensor in plan.leader}
        for operation in plan.operations:
            for tensor in operation.inputs:
                spec = self._spec(tensor, place, at=(tensor, operation.reader))
                _annotation(operation.reader).input_qspec_map[tensor] = spec
            output = operation.output
            _annotation(output).output_qspec = self._spec(output, place, at=output)
            if operation.kind == "layer":
                self._annotate_weight(operation)
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: the plan holds only what both runtimes take."""

    def _spec(
        self, tensor: Node, place: Mapping[Node, object], *, at: object
    ) -> QuantizationSpec | SharedQuantizationSpec:
        """A spec of its own for the first place of a scale, a reference to that place for all others."""
        leader = self._scheme.plan.leader[tensor]
        if place[leader] != at:
            return SharedQuantizationSpec(place[leader])
        numbers = self._scheme.activations[leader]
        return QuantizationSpec(
            dtype=torch.int8,
            quant_min=LOWEST,
            quant_max=HIGHEST,
            qscheme=torch.per_tensor_affine,
            observer_or_fake_quant_ctr=_Settled.with_args(
                scale=torch.tensor([numbers.scale]), zero_point=numbers.zero_point
            ),
        )

    def _annotate_weight(self, operation: Operation) -> None:
        layer = operation.node
        scale = self._scheme.weights[layer]
        whole = scale.numel() == 1
        axis = output_axis(layer)
        _annotation(layer).input_qspec_map[layer.args[1]] = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-WEIGHT_LIMIT,
            quant_max=WEIGHT_LIMIT,
            qscheme=torch.per_tensor_symmetric if whole else torch.per_channel_symmetric,
            ch_axis=axis,
            observer_or_fake_quant_ctr=_Settled.with_args(scale=scale, zero_point=0, ch_axis=-1 if whole else axis),
        )


def _annotation(node: Node) -> QuantizationAnnotation:
    if _ANNOTATION not in node.meta:
        node.meta[_ANNOTATION] = QuantizationAnnotation(_annotated=True)
    return node.meta[_ANNOTATION]
