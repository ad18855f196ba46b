"""Zeros around a plane that a max pooling reads."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import add_constant, constant, only_consumer, replace, taken_outputs


def protect_padding_of_pools(graph: ir.Graph) -> None:
    """Name the axes of a Pad that a MaxPool reads.

    ONNX Runtime's optimizer (seen in 1.31) takes such a Pad into the pool,
    which then pads with the smallest number instead of the Pad's value. It
    leaves a Pad alone that names its axes.

    Before: any graph. After: every Pad with constant amounts that a MaxPool
    alone reads names its axes.
    """
    for pad in [node for node in graph if node.op_type == "Pad"]:
        amounts = constant(pad.inputs[1])
        if only_consumer(pad.outputs[0], "MaxPool") is None or amounts is None or len(pad.inputs) > 3:  # noqa: PLR2004  # axes
            continue
        axes = add_constant(graph, f"{pad.name}_axes", np.arange(len(amounts) // 2, dtype=np.int64))
        new = ir.node(
            "Pad", [*pad.inputs, *[None] * (3 - len(pad.inputs)), axes], pad.attributes, name=pad.name or "",
            outputs=list(taken_outputs(pad)),
        )  # fmt: skip
        replace(pad, new)
