"""Matrix products with a bias."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import add_constant, constant, insert_before, only_consumer, producer


def multiply_as_gemm(graph: ir.Graph) -> None:
    """Write an int8 ``MatMul`` of a tensor of three or more dimensions, and its bias, as ``Gemm`` over its rows.

    ONNX Runtime has an int8 kernel with a bias for ``Gemm`` alone; as
    ``MatMul`` and ``Add`` both would be computed in float. The reshapes
    stand between Q and DQ, where they cost nothing.

    Before: weights are in the order in which they are multiplied
    (:mod:`edgeq.lower.onnx_rewrites.weights`). After: no MatMul of int8
    rows and an int8 matrix has an int8 result.
    """
    for product in [node for node in graph if node.op_type == "MatMul"]:
        read, weight = (producer(value, "DequantizeLinear") for value in product.inputs)
        matrix = None if weight is None else constant(weight.inputs[0])
        shape = product.outputs[0].shape
        if read is None or matrix is None or matrix.ndim != 2 or shape is None:  # noqa: PLR2004  # a matrix
            continue
        add = only_consumer(product.outputs[0], "Add")
        bias = next((v for v in add.inputs if constant(v) is not None), None) if add is not None else None
        last = add if add is not None and bias is not None and len(bias.shape or ()) == 1 else product
        stored = only_consumer(last.outputs[0], "QuantizeLinear")
        if stored is None:
            continue
        inner, columns = matrix.shape
        rows = _between(graph, read.inputs[0], [-1, inner], f"{product.name}_rows", before=product)
        flat = ir.node("DequantizeLinear", [rows, *read.inputs[1:]], read.attributes, name=f"{product.name}_input")
        gemm = ir.node(
            "Gemm", [flat.outputs[0], product.inputs[1], *([bias] if last is add else [])], name=product.name or ""
        )
        kept = ir.node("QuantizeLinear", [gemm.outputs[0], *stored.inputs[1:]], name=stored.name or "")
        for node in (flat, gemm, kept):
            insert_before(stored, node)
        _name_outputs(product.name or "", flat=flat, gemm=gemm, kept=kept)
        height = int(np.prod(shape.numpy()[:-1]))
        flat.outputs[0].shape = ir.Shape([height, inner])
        gemm.outputs[0].shape = ir.Shape([height, columns])
        for node, dtype in ((flat, ir.DataType.FLOAT), (gemm, ir.DataType.FLOAT), (kept, stored.outputs[0].dtype)):
            node.outputs[0].type = None if dtype is None else ir.TensorType(dtype)
        whole = _between(graph, kept.outputs[0], list(shape.numpy()), f"{product.name}_whole", before=stored)
        ir.convenience.replace_all_uses_with(stored.outputs[0], whole)


def _between(graph: ir.Graph, value: ir.Value | None, shape: list[int], name: str, *, before: ir.Node) -> ir.Value:
    """``value`` reshaped on its way from Q to DQ."""
    assert value is not None  # noqa: S101  # Q and DQ always have an input
    node = ir.node("Reshape", [value, add_constant(graph, f"{name}_shape", np.array(shape, np.int64))], name=name)
    insert_before(before, node)
    node.outputs[0].name = f"{name}_value"
    node.outputs[0].type = value.type
    return node.outputs[0]


def _name_outputs(prefix: str, **nodes: ir.Node) -> None:
    for name, node in nodes.items():
        node.outputs[0].name = f"{prefix}_{name}"
