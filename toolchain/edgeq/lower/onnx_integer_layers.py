"""Layers with integer weights and float activations, in an exported graph: found, and given to the rewrites.

ONNX Runtime has other operators for them than ExecuTorch has, so the
exporter sees the layers without their activations quantized; the integers
and scales of the weights are the program's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import torch

from edgeq.lower.onnx_graph import constant, ints, only_consumer, producer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

_ATEN = torch.ops.aten
_DECOMPOSED = torch.ops.quantized_decomposed
_AT_RUN_TIME = (_DECOMPOSED.dequantize_per_token.default, _DECOMPOSED.dequantize_per_tensor.tensor)


def read_floats(program: ExportedProgram) -> None:
    """Let every layer of ``program``, which is changed, read its input as it was before it was quantized at run time.

    Weights in groups are written as rows of one group each, which the
    exporter knows.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if node.target in _AT_RUN_TIME:
            node.replace_all_uses_with(node.args[0].args[0])
        elif node.target == _DECOMPOSED.dequantize_per_channel_group.default:
            node.replace_all_uses_with(_by_rows(graph, node))
    graph.eliminate_dead_code()
    graph.lint()


def _by_rows(graph: Graph, node: Node) -> Node:
    integers, scales, zero_points, lowest, highest, dtype, group_size, _ = node.args
    with graph.inserting_before(node):
        rows = _call(graph, _ATEN.reshape.default, integers, [-1, group_size])
        flat = [_call(graph, _ATEN.reshape.default, value, [-1]) for value in (scales, zero_points)]
        read = _call(graph, _DECOMPOSED.dequantize_per_channel.default, rows, *flat, 0, lowest, highest, dtype)
        return _call(graph, _ATEN.reshape.default, read, list(integers.meta["val"].shape))  # type: ignore[union-attr]  # a node


def _call(graph: Graph, target: torch._ops.OpOverload, *args: object) -> Node:
    node = graph.call_function(target, args)  # type: ignore[arg-type]  # whatever fx takes
    node.meta["val"] = target(*[arg.meta["val"] if isinstance(arg, torch.fx.Node) else arg for arg in args])
    return node


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerLayer:
    """A product or a convolution whose weight is read from integers.

    ``node`` computes it from ``source``. ``integers`` are int8 of shape
    (outputs, ...); ``scales`` float32 of shape (outputs, groups).
    ``output`` is the value that holds the result, ``bias`` (outputs,)
    included if there is one.
    """

    node: ir.Node
    source: ir.Value
    integers: np.ndarray
    scales: np.ndarray
    bias: ir.Value | None
    output: ir.Value

    @property
    def bits(self) -> int:
        """4 if every weight fits into as many, else 8."""
        return 4 if self.integers.min() >= -8 and self.integers.max() <= 7 else 8  # noqa: PLR2004  # int4's ends


def integer_layers(graph: ir.Graph) -> Iterator[IntegerLayer]:
    """Every such layer, in the order of the graph, which the caller may change between them."""
    for node in list(graph):
        if node.op_type not in ("MatMul", "Gemm", "Conv") or _is_transposed_gemm(node):
            continue
        weight = _integer_weight(node.inputs[1], turned=node.op_type == "MatMul")
        if weight is None or node.inputs[0] is None:
            continue
        bias, output = _bias(node, outputs=len(weight[1]))
        yield IntegerLayer(
            node=node, source=node.inputs[0], integers=weight[0], scales=weight[1], bias=bias, output=output
        )


def _is_transposed_gemm(node: ir.Node) -> bool:
    """Whether a Gemm is none that the exporter writes for a linear layer."""
    if node.op_type != "Gemm":
        return False
    flags = {name: node.attributes[name].as_int() for name in ("transA", "transB") if name in node.attributes}
    return bool(flags.get("transA")) or not flags.get("transB")


def _integer_weight(value: ir.Value | None, *, turned: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """The integers and scales behind ``value``: a DequantizeLinear, maybe reshaped from rows of groups."""
    if turned:
        transpose = producer(value, "Transpose")
        value = None if transpose is None else transpose.inputs[0]
    reshape = producer(value, "Reshape")
    if reshape is not None:
        shape = constant(reshape.inputs[1])
        value = reshape.inputs[0]
    read = producer(value, "DequantizeLinear")
    if read is None:
        return None
    integers, scales = _reshaped(read.inputs[0]), _reshaped(read.inputs[1])
    if integers is None or scales is None or integers.dtype != np.int8 or scales.ndim != 1:
        return None
    if reshape is not None:
        assert shape is not None  # noqa: S101  # edgeq wrote the shape as a list of numbers
        integers = integers.reshape(shape)
    return integers, scales.reshape(len(integers), -1)


def _reshaped(value: ir.Value | None) -> np.ndarray | None:
    """The constant behind ``value``, which the exporter reshapes in the file if it is small, and when it runs else."""
    reshape = producer(value, "Reshape")
    if reshape is None:
        return constant(value)
    array, shape = (constant(operand) for operand in reshape.inputs)
    return None if array is None or shape is None else array.reshape(shape)


def _bias(node: ir.Node, *, outputs: int) -> tuple[ir.Value | None, ir.Value]:
    """What is added to each output, by the layer itself or by an Add that alone reads it; and where the sum stands."""
    if node.op_type != "MatMul":
        return (node.inputs[2] if len(node.inputs) > 2 else None), node.outputs[0]  # noqa: PLR2004  # data, weight, bias
    add = only_consumer(node.outputs[0], "Add")
    if add is not None:
        for value in add.inputs:
            array = constant(value)
            if array is not None and array.shape == (outputs,):
                return value, add.outputs[0]
    return None, node.outputs[0]


def integer_macs(node: ir.Node) -> int:
    """Multiply-accumulates of the operators that the rewrites of integer layers write."""
    output = node.outputs[0].shape
    assert output is not None  # noqa: S101  # the rewrites give every value its shape
    if node.op_type == "MatMulNBits":
        return math.prod(output.numpy()) * node.attributes["K"].as_int()
    weight = constant(node.inputs[1])
    assert weight is not None  # noqa: S101  # it was written as a constant
    inner = math.prod(weight.shape[1:]) if node.op_type == "ConvInteger" else weight.shape[0]
    return math.prod(output.numpy()) * inner


def convolution_attributes(node: ir.Node) -> dict[str, ir.Attr]:
    """What a Conv and a ConvInteger both say of their geometry."""
    return {
        name: ir.AttrInt64s(name, ints(node, name, ()))
        for name in ("pads", "strides", "dilations", "kernel_shape")
        if name in node.attributes
    }
