"""Weight-only recipes in ONNX: ``MatMulNBits``, ONNX Runtime's product with a matrix of 4-bit or 8-bit weights.

Where the processor has dot products of bytes it multiplies integers: each
row of the activations is quantized in blocks while it runs. Elsewhere it
makes the weights float again whenever it runs: on an emulated Cortex-A72 a
product with 8-bit weights took six times the instructions of a float one,
one with 4-bit weights twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import add_constant, put, take_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeq.lower.onnx_integer_layers import IntegerLayer

_BLOCKS = (128, 64, 32, 16)
"""Numbers of weights in a row that the kernels take as one block, the cheapest first; a block has one scale."""

_IN_INTEGERS = 4
"""The operator's ``accuracy_level`` for activations as int8."""


def multiply_few_bits(graph: ir.Graph, layers: Iterable[IntegerLayer]) -> None:
    """Write products with integer weights as ``MatMulNBits``."""
    for layer in layers:
        name = layer.node.name or ""
        outputs, inputs = layer.integers.shape
        block = _block(inputs // layer.scales.shape[1])
        attributes = {
            "K": inputs,
            "N": outputs,
            "bits": layer.bits,
            "block_size": block,
            "accuracy_level": _IN_INTEGERS,
        }
        product = put(
            layer.node,
            "MatMulNBits",
            [
                layer.source,
                add_constant(graph, f"{name}_int{layer.bits}", _packed(layer, block)),
                add_constant(graph, f"{name}_scales", _scales(layer, block)),
                *([] if layer.bias is None else [None, None, layer.bias]),
            ],
            name,
            attributes={key: ir.AttrInt64(key, value) for key, value in attributes.items()},
            domain="com.microsoft",
        )
        take_place(product.outputs[0], layer.output)


def _block(group: int) -> int:
    """The largest block that divides a group of weights with one scale; the smallest but one, padded, if none does."""
    return next((block for block in _BLOCKS if group % block == 0), _BLOCKS[-2])


def _packed(layer: IntegerLayer, block: int) -> np.ndarray:
    """The integers as unsigned ones: (outputs, blocks, bytes of a block); of two in a byte the first is the low one."""
    outputs, inputs = layer.integers.shape
    blocks = -(-inputs // block)
    middle = 1 << (layer.bits - 1)
    unsigned = np.full((outputs, blocks * block), middle, np.uint8)
    unsigned[:, :inputs] = layer.integers.astype(np.int16) + middle
    cut = unsigned.reshape(outputs, blocks, block)
    return cut if layer.bits == 8 else cut[..., 0::2] | (cut[..., 1::2] << 4)  # noqa: PLR2004  # a whole byte each


def _scales(layer: IntegerLayer, block: int) -> np.ndarray:
    """A scale for each block of each row, several blocks of one group having the same."""
    inputs = layer.integers.shape[1]
    groups = layer.scales.shape[1]
    of_block = np.arange(-(-inputs // block)) * block // (inputs // groups)
    return np.ascontiguousarray(layer.scales[:, of_block])
