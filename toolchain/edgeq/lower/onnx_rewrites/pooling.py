"""Means over the plane."""

from __future__ import annotations

import onnx_ir as ir

from edgeq.lower.onnx_graph import constant, replace, taken_outputs


def pool_globally(graph: ir.Graph) -> None:
    """Write ``ReduceMean`` over the plane as ``GlobalAveragePool``, for which there is an int8 kernel.

    Before: any graph. After: no ReduceMean over the plane of an image keeps
    its dimensions.
    """
    for mean in [node for node in graph if node.op_type == "ReduceMean"]:
        axes = constant(mean.inputs[1]) if len(mean.inputs) > 1 else None
        shape = mean.inputs[0].shape if mean.inputs[0] is not None else None
        keeps = mean.attributes.get("keepdims")
        if axes is None or shape is None or len(shape) != 4 or (keeps is not None and not keeps.as_int()):  # noqa: PLR2004  # (batch, channels, height, width)
            continue
        if sorted(int(axis) % 4 for axis in axes) != [2, 3]:
            continue
        pool = ir.node("GlobalAveragePool", [mean.inputs[0]], name=mean.name, outputs=list(taken_outputs(mean)))
        replace(mean, pool)
