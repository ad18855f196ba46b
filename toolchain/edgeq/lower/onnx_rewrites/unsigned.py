"""Activations as uint8."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import add_constant, constant


def use_unsigned_activations(graph: ir.Graph) -> None:
    """Store activations as uint8 with every integer and zero point 128 higher: the same real values, bit by bit.

    x86 kernels of ONNX Runtime multiply uint8 by int8. Weights stay int8.

    Before: activations are int8, biases int32. After: no activation is
    int8.
    """
    for node in list(graph):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or constant(node.inputs[0]) is not None:
            continue
        zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else None  # noqa: PLR2004  # data, scale, zero point
        if zero_point is None or zero_point.dtype != np.int8:
            continue
        assert node.inputs[2] is not None  # noqa: S101  # a constant has just been read from it
        node.replace_input_with(2, _raised(graph, node.inputs[2]))
        stored = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
        assert stored is not None  # noqa: S101  # both operators have it
        stored.dtype = ir.DataType.UINT8
        output_dtype = node.attributes.get("output_dtype")
        if node.op_type == "QuantizeLinear" and output_dtype is not None and output_dtype.as_int():
            node.attributes["output_dtype"] = ir.AttrInt64("output_dtype", int(ir.DataType.UINT8))
    for clamp in [node for node in graph if node.op_type == "Clip"]:
        for index in (1, 2):
            bound = clamp.inputs[index] if len(clamp.inputs) > index else None
            array = constant(bound)
            if bound is not None and array is not None and array.dtype == np.int8:
                clamp.replace_input_with(index, _raised(graph, bound))


def _raised(graph: ir.Graph, value: ir.Value) -> ir.Value:
    array = constant(value)
    assert array is not None  # noqa: S101  # the callers have checked it
    return add_constant(graph, f"{value.name}_unsigned", (array.astype(np.int16) + 128).astype(np.uint8))
