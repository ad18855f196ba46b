"""Dynamic recipes in ONNX: activations become uint8 at run time, and products are products of integers.

ONNX Runtime takes the range of an activation over the whole tensor and
stores it as uint8, where XNNPACK takes that of each row and stores int8:
the same integers as weights, but not the same numbers bit by bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import add_constant, constant, put, take_place
from edgeq.lower.onnx_integer_layers import convolution_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeq.lower.onnx_integer_layers import IntegerLayer


def multiply_integers(graph: ir.Graph, layers: Iterable[IntegerLayer]) -> None:
    """Write layers with integer weights as ``MatMulInteger`` or ``ConvInteger`` of its input made uint8.

    Layers that read the same tensor share its integers. ONNX Runtime fuses
    what follows a product (the cast to float, the scale, the bias) into it.
    """
    stored: dict[ir.Value, ir.Node] = {}
    for layer in layers:
        if layer.source not in stored:
            name = f"{layer.node.name}_quantize"
            stored[layer.source] = put(layer.node, "DynamicQuantizeLinear", [layer.source], name, outputs=3)
        _multiply(graph, layer, stored[layer.source])


def _multiply(graph: ir.Graph, layer: IntegerLayer, stored: ir.Node) -> None:
    """The product of integers, made float again with both scales."""
    node, name = layer.node, layer.node.name or ""
    is_convolution = node.op_type == "Conv"
    weight = layer.integers if is_convolution else np.ascontiguousarray(layer.integers.T)
    # Channels come second in what a convolution gives, last in a product: scales and bias are laid out to meet them.
    channels = [-1, *[1] * (weight.ndim - 2)] if is_convolution else [-1]
    integers, scale, zero_point = stored.outputs
    product = put(
        node,
        "ConvInteger" if is_convolution else "MatMulInteger",
        [integers, add_constant(graph, f"{name}_int8", weight), zero_point],
        name,
        attributes=convolution_attributes(node) if is_convolution else {},
    )
    summed = put(
        node, "Cast", [product.outputs[0]], f"{name}_float", attributes={"to": ir.AttrInt64("to", ir.DataType.FLOAT)}
    )
    scales = add_constant(graph, f"{name}_scales", layer.scales.reshape(channels))
    both = put(node, "Mul", [scale, scales], f"{name}_scale")
    result = put(node, "Mul", [summed.outputs[0], both.outputs[0]], f"{name}_scaled")
    bias = constant(layer.bias)
    if bias is not None:
        added = add_constant(graph, f"{name}_added", bias.reshape(channels))
        result = put(node, "Add", [result.outputs[0], added], f"{name}_biased")
    product.outputs[0].type, product.outputs[0].shape = ir.TensorType(ir.DataType.INT32), layer.output.shape
    take_place(result.outputs[0], layer.output)
