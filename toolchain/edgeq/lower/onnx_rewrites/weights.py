"""The order in which a weight lies in the file."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import add_constant, constant, producer, replace, taken_outputs


def transpose_weights(graph: ir.Graph) -> None:
    """Transpose int8 weights in the file: a Transpose between DQ and MatMul hinders the fusion.

    Before: weights are int8 matrices behind DQ. After: none of them is
    transposed at run time.
    """
    for transpose in [node for node in graph if node.op_type == "Transpose"]:
        read = producer(transpose.inputs[0], "DequantizeLinear")
        weight = None if read is None else constant(read.inputs[0])
        if read is None or weight is None or weight.ndim != 2 or weight.dtype != np.int8:  # noqa: PLR2004  # a matrix
            continue
        assert read.inputs[0] is not None  # noqa: S101  # a constant has just been read from it
        turned = add_constant(graph, f"{read.inputs[0].name}_transposed", np.ascontiguousarray(weight.T))
        axis = read.attributes.get("axis")
        new = ir.node(
            "DequantizeLinear",
            [turned, *read.inputs[1:]],
            {"axis": 1 - (axis.as_int() if axis is not None else 1)},
            name=f"{transpose.name}_weight",
            outputs=list(taken_outputs(transpose)),
        )
        replace(transpose, new)
