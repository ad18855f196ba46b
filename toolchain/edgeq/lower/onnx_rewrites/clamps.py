"""Clamps of int8 tensors."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import add_constant, constant, insert_before, only_consumer, producer


def clamp_integers(graph: ir.Graph) -> None:
    """Write ``Q -> DQ -> clamp -> Q`` at one scale as a clamp of the integers.

    Before: activations are int8. After: no clamp stands between DQ and Q of
    one scale.
    """
    for clamp in [node for node in graph if node.op_type in ("Relu", "Clip")]:
        read = producer(clamp.inputs[0], "DequantizeLinear")
        stored = only_consumer(clamp.outputs[0], "QuantizeLinear")
        if read is None or stored is None or list(read.inputs[1:]) != list(stored.inputs[1:]):
            continue
        scale, zero_point = constant(stored.inputs[1]), constant(stored.inputs[2])
        if scale is None or zero_point is None:
            continue
        limits = np.iinfo(zero_point.dtype)
        bounds = [
            np.clip(np.round(bound / scale) + zero_point, limits.min, limits.max).astype(zero_point.dtype)
            for bound in _bounds(clamp)
        ]
        low, high = (
            add_constant(graph, f"{clamp.name}_{side}", bound)
            for side, bound in zip(("low", "high"), bounds, strict=True)
        )
        new = ir.node("Clip", [read.inputs[0], low, high], name=clamp.name)
        insert_before(clamp, new)
        new.outputs[0].dtype = ir.DataType.from_numpy(zero_point.dtype)
        new.outputs[0].shape = stored.outputs[0].shape
        new.outputs[0].name = f"{stored.outputs[0].name}_clamped"
        ir.convenience.replace_all_uses_with(stored.outputs[0], new.outputs[0])
        graph.remove([stored, clamp], safe=True)


def _bounds(clamp: ir.Node) -> tuple[float, float]:
    if clamp.op_type == "Relu":
        return 0.0, float("inf")
    low, high = (constant(value) for value in (*clamp.inputs, None, None)[1:3])
    return float("-inf") if low is None else float(low), float("inf") if high is None else float(high)
