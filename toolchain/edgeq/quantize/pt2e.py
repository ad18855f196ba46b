"""What edgeq uses of torchao: the PT2E flow. Importing torchao warns of optional parts that no one here needs."""

from __future__ import annotations

from edgeq.quiet import quietly

with quietly():
    from torchao.quantization.pt2e.observer import ObserverBase
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import (
        QuantizationAnnotation,
        QuantizationSpec,
        Quantizer,
        SharedQuantizationSpec,
    )

__all__ = [
    "ObserverBase",
    "QuantizationAnnotation",
    "QuantizationSpec",
    "Quantizer",
    "SharedQuantizationSpec",
    "convert_pt2e",
    "prepare_pt2e",
]
