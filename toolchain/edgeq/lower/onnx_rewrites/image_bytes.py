"""An image of bytes, read by the first kernel as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgeq.lower.onnx_graph import constant, producer

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_bytes_as_they_are(graph: ir.Graph) -> None:
    """Give an input of bytes to who reads the same integers: ``DQ -> Q`` at one scale and zero point is nothing.

    Before: DequantizeLinear of a graph input, then QuantizeLinear with the
    same numbers. After: nobody reads that QuantizeLinear.
    """
    for quantize in [node for node in graph if node.op_type == "QuantizeLinear"]:
        read = producer(quantize.inputs[0], "DequantizeLinear")
        image = None if read is None else read.inputs[0]
        if read is None or image is None or not image.is_graph_input():
            continue
        if _equal(read.inputs[1:], quantize.inputs[1:]):
            ir.convenience.replace_all_uses_with(quantize.outputs[0], image)


def _equal(left: Sequence[ir.Value | None], right: Sequence[ir.Value | None]) -> bool:
    for pair in zip(left, right, strict=True):
        first, second = map(constant, pair)
        if first is None or second is None or first.dtype != second.dtype or not (first == second).all():
            return False
    return True
