"""Layers that a recipe keeps in float, out of the reach of ONNX Runtime's own rounding."""

from __future__ import annotations

import onnx_ir as ir

from edgeq.lower.onnx_graph import constant, insert_before, producer

_ROUNDED_BY_THE_RUNTIME = ("Conv", "ConvTranspose", "Gemm")


def keep_in_float(graph: ir.Graph) -> None:
    """Put a sum of one tensor, which changes nothing, between a DequantizeLinear and a layer with float weights.

    ONNX Runtime rounds such weights itself where Q and DQ stand around the
    layer (its WeightBiasQuantization), and runs it in int8 against what the
    file says. It drops an Identity before it looks; a Sum it leaves alone.

    Before: weights are quantized, or constants in float. After: no layer
    with float weights reads a DequantizeLinear.
    """
    for node in list(graph):
        if node.op_type not in _ROUNDED_BY_THE_RUNTIME or constant(node.inputs[1]) is None:
            continue
        value = node.inputs[0]
        if value is None or producer(value, "DequantizeLinear") is None:
            continue
        between = ir.node("Sum", [value], name=f"{node.name}_in_float")
        between.outputs[0].type, between.outputs[0].shape = value.type, value.shape
        insert_before(node, between)
        node.replace_input_with(0, between.outputs[0])


def is_copy(node: ir.Node) -> bool:
    """Whether a node is such a sum."""
    return node.op_type == "Sum" and len(node.inputs) == 1
