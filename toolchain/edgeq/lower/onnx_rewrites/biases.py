"""Biases in the units of the sums that they are added to."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import add_constant, constant, insert_before, producer


def quantize_biases(graph: ir.Graph) -> None:
    """Store the bias of an int8 layer as int32 at input scale x weight scale, as both runtimes add it.

    Rounded as ExecuTorch does it, so that both artifacts add the same
    integers.

    Before: products are Gemm (:mod:`edgeq.lower.onnx_rewrites.products`).
    After: no Conv or Gemm with int8 operands has a float bias.
    """
    for layer in [node for node in graph if node.op_type in ("Conv", "Gemm")]:
        if len(layer.inputs) < 3 or layer.inputs[2] is None:  # noqa: PLR2004  # input, weight, bias
            continue
        reads = [producer(value, "DequantizeLinear") for value in layer.inputs[:2]]
        bias = constant(layer.inputs[2])
        if None in reads or bias is None or bias.dtype != np.float32 or bias.ndim != 1:
            continue
        input_scale, weight_scale = (constant(read.inputs[1]) for read in reads if read is not None)
        if input_scale is None or weight_scale is None or input_scale.size != 1:
            continue
        scale = (weight_scale * input_scale.astype(np.float32)).astype(np.float32)
        inverse = (np.float32(1) / scale).astype(np.float32)
        limits = np.iinfo(np.int32)
        integers = np.clip(np.round(bias * inverse).astype(np.float64), limits.min, limits.max).astype(np.int32)
        name = f"{layer.name}_bias"
        read_bias = ir.node(
            "DequantizeLinear",
            [add_constant(graph, f"{name}_int32", integers), add_constant(graph, f"{name}_scale", scale)],
            {"axis": 0},
            name=name,
        )
        read_bias.outputs[0].name = f"{name}_float"
        read_bias.outputs[0].dtype = ir.DataType.FLOAT
        read_bias.outputs[0].shape = ir.Shape(bias.shape)
        insert_before(layer, read_bias)
        layer.replace_input_with(2, read_bias.outputs[0])
