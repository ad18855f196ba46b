"""Whole recurrent layers of dynamic recipes in ONNX, from float weights that are integers times a scale.

An LSTM becomes ``DynamicQuantizeLSTM``, which multiplies integers. ONNX
Runtime has no such kernel for GRU and plain recurrent layers: they compute
in float with weights that are read from integers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnxscript.optimizer import fold_constants

from edgeq.lower.onnx_graph import add_constant, constant, put, take_place

if TYPE_CHECKING:
    from collections.abc import Sequence

RECURRENT = ("LSTM", "GRU", "RNN")
DOMAIN = "com.microsoft"

_LARGEST_INT8 = 127
_UNLIMITED = 2**40


def quantize_recurrent_layers(model: ir.Model) -> None:
    """Store the weights of every recurrent layer as int8; those that the recipe keeps in float stay as they are."""
    graph = model.graph
    layers = [node for node in graph if node.op_type in RECURRENT]
    if not layers:
        return
    # The exporter puts the gates into ONNX's order; the result has to be in the file to be told from integers.
    fold_constants(model, input_size_limit=_UNLIMITED, output_size_limit=_UNLIMITED)
    for node in [node for node in graph if node.op_type in RECURRENT]:
        weights = [_as_integers(constant(value)) for value in node.inputs[1:3]]
        inputs, states = weights
        if inputs is None or states is None:
            continue
        if node.op_type == "LSTM":
            model.opset_imports[DOMAIN] = 1
            _multiply_integers(graph, node, inputs, states)
        else:
            for index, (integers, scales) in enumerate((inputs, states), 1):
                node.replace_input_with(index, _read(graph, node, integers, scales, f"{node.name}_weight{index}"))


def _as_integers(weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """int8 and float32 scales, (directions, outputs), that give ``weight`` bit by bit; None if there are none."""
    if weight is None:
        return None
    largest = np.abs(weight).max(axis=2)
    scales = np.where(largest > 0, largest / np.float32(_LARGEST_INT8), np.float32(1)).astype(np.float32)
    integers = np.rint(weight / scales[..., None])
    if not np.array_equal((integers.astype(np.float32) * scales[..., None]).astype(np.float32), weight):
        return None
    return integers.astype(np.int8), scales


def _multiply_integers(
    graph: ir.Graph, node: ir.Node, inputs: tuple[np.ndarray, np.ndarray], states: tuple[np.ndarray, np.ndarray]
) -> None:
    """An LSTM on int8 weights of shape (directions, inputs, 4 x size); their scales come last."""
    name = node.name or ""
    constants: list[Sequence[ir.Value]] = []
    for kind, (integers, scales) in (("input", inputs), ("state", states)):
        turned = np.ascontiguousarray(integers.transpose(0, 2, 1))
        constants.append(
            (
                add_constant(graph, f"{name}_{kind}_int8", turned),
                add_constant(graph, f"{name}_{kind}_scales", scales),
                add_constant(graph, f"{name}_{kind}_zero_points", np.zeros(scales.shape, np.int8)),
            )
        )
    (weight, *numbers), (recurrent, *recurrent_numbers) = constants
    others = [*node.inputs[3:], *[None] * (8 - len(node.inputs))]
    operands = [node.inputs[0], weight, recurrent, *others, *numbers, *recurrent_numbers]
    known = {key: value for key, value in node.attributes.items() if key != "layout"}
    count = len(node.outputs)
    new = put(node, "DynamicQuantizeLSTM", operands, name, attributes=known, domain=DOMAIN, outputs=count)
    for fresh, old in zip(new.outputs, node.outputs, strict=True):
        take_place(fresh, old)


def _read(graph: ir.Graph, node: ir.Node, integers: np.ndarray, scales: np.ndarray, name: str) -> ir.Value:
    """A float weight (directions, outputs, inputs), read from rows of integers with a scale each."""
    rows = add_constant(graph, f"{name}_int8", integers.reshape(-1, integers.shape[2]))
    flat = add_constant(graph, f"{name}_scales", scales.reshape(-1))
    read = put(node, "DequantizeLinear", [rows, flat], f"{name}_rows", attributes={"axis": ir.AttrInt64("axis", 0)})
    read.outputs[0].type, read.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), rows.shape
    shape = add_constant(graph, f"{name}_shape", np.array(integers.shape, np.int64))
    whole = put(node, "Reshape", [read.outputs[0], shape], name).outputs[0]
    whole.type, whole.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(integers.shape)
    return whole
