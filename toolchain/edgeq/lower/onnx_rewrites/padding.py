"""Zeros around a plane, put there by the convolution that reads it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import constant, ints, producer


def pad_inside_convolutions(graph: ir.Graph) -> None:
    """Turn ``Pad -> Conv`` into a convolution with (unequal) ``pads``: a Pad between DQ and Conv hinders the fusion.

    Before: any graph. After: no convolution reads a Pad of zeros around the
    plane.
    """
    for conv in [node for node in graph if node.op_type == "Conv"]:
        pad = producer(conv.inputs[0], "Pad")
        if pad is None or not _pads_plane_with_zero(pad):
            continue
        amounts = constant(pad.inputs[1])
        assert amounts is not None  # noqa: S101  # _pads_plane_with_zero has read it
        rank = len(amounts) // 2
        extra = [*amounts[2:rank], *amounts[rank + 2 :]]
        own = ints(conv, "pads", [0] * len(extra))
        summed = [int(a) + int(b) for a, b in zip(own, extra, strict=True)]
        conv.attributes["pads"] = ir.AttrInt64s("pads", summed)
        conv.replace_input_with(0, pad.inputs[0])


def _pads_plane_with_zero(pad: ir.Node) -> bool:
    amounts = constant(pad.inputs[1])
    value = constant(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else np.float32(0)  # noqa: PLR2004  # data, pads, value
    mode = pad.attributes.get("mode")
    if amounts is None or value is None or (mode is not None and mode.as_string() != "constant"):
        return False
    if len(pad.inputs) > 3 and pad.inputs[3] is not None:  # noqa: PLR2004  # axes
        return False
    rank = len(amounts) // 2
    outside = [*amounts[:2], *amounts[rank : rank + 2]]
    return not np.any(value) and not any(outside) and min(amounts) >= 0
