"""Lower to ONNX: a QDQ graph that ONNX Runtime fuses into int8 kernels.

The shares are read off what ONNX Runtime makes of the file on this machine
(:mod:`edgeq.lower.onnx_nodes`), with int8 activations allowed to fuse as
they are on ARM: ``int8_mac_share`` counts
layers that became integer kernels. ``delegated_mac_share`` is what runs as
the file asks for: 1 minus the layers between Q and DQ that the optimizer
did not fuse, which then compute in float after all.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import math
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
import onnx_ir.passes.common
import torch

from edgeq.files import write_bytes
from edgeq.lower import onnx_rewrites as rewrites
from edgeq.lower.coverage import Coverage, as_undelegated, grouped, share
from edgeq.lower.executorch import output_scales, tensor_specs
from edgeq.lower.onnx_dynamic import multiply_integers
from edgeq.lower.onnx_integer_layers import integer_layers, integer_macs, read_floats
from edgeq.lower.onnx_nodes import Activations, Origin, look, nodes_of, noted_origin, origin_of
from edgeq.lower.onnx_recurrent import DOMAIN, RECURRENT, quantize_recurrent_layers
from edgeq.lower.onnx_weight_only import multiply_few_bits
from edgeq.lower.origins import operators_of_onnx
from edgeq.lower.refusal import RefusedError
from edgeq.quantize.macs import einsum_macs, total_macs
from edgeq.quiet import quietly
from edgeq.records import Requires, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch.fx import Node

    from edgeq.quantize import QuantizedProgram
    from edgeq.recipe import Method
    from edgeq.records import FileOperator, Nodes

_OPSET = 20  # the newest whose operators ONNX Runtime 1.31 has all in int8 or float kernels; IR version 10
_INTEGER_PRODUCTS = frozenset(("MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM"))


def lower_onnx(
    program: QuantizedProgram, path: Path, *, activations: Activations, dot_product: bool, triple: str
) -> Coverage:
    """Write ``program`` to ``path`` as .onnx; RefusedError if it cannot be exported, is no valid ONNX or does not run.

    ``activations`` is the dtype of quantized activations in the file; the
    real values are the same for both. ``dot_product`` says whether the
    target's processor has dot products of bytes, ``triple`` what it is.
    """
    try:
        model, origins, made_of = _export(program)
        _rewrite(model, program.recipe.method, activations=activations, dot_product=dot_product)
        proto = ir.to_proto(model)
        onnx.checker.check_model(proto, full_check=True)
        data = proto.SerializeToString(deterministic=True)
        feeds = {
            str(value.name): tensor.numpy()
            for value, tensor in zip(model.graph.inputs, program.example_inputs, strict=True)
        }
        seen = look(data, activations=activations, feeds=feeds)
    except Exception as error:  # the exporter, the checker and the optimizer raise whatever they raise
        raise RefusedError from error
    write_bytes(path, data)
    products = _INTEGER_PRODUCTS | {"MatMulNBits"} if dot_product else _INTEGER_PRODUCTS
    nodes = nodes_of(
        program, model, seen, origins,
        cost=_cost, integer_products=products, triple=triple, activations=activations,
    )  # fmt: skip
    return _coverage(program, model, nodes, tuple(operators_of_onnx(model.graph, made_of)))


def _export(program: QuantizedProgram) -> tuple[ir.Model, dict[str, Origin], dict[str, Node]]:
    """The exporter's graph; where in the user's model each of its nodes comes from, and the node it was made of."""
    noise = io.StringIO()  # the exporter prints its progress
    with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise), quietly():
        copied = program.copy_to_lower(looped=True)
        by_name = {node.name: origin_of(node) for node in copied.graph.nodes}
        if program.quantizes_at_run_time:
            read_floats(copied)
        exported = torch.onnx.export(copied, (), dynamo=True, optimize=True, opset_version=_OPSET, verbose=False)
    if exported is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    model = exported.model
    rewrites.compute_each_call(model.graph)
    decomposed = exported.exported_program or copied
    exported_nodes = {node.name: node for node in decomposed.graph.nodes}
    origins, made_of = {}, {}
    for node in model.graph:
        name = node.name or ""
        fx_node = node.metadata_props.get("pkg.torch.onnx.fx_node", "").removeprefix("%").split(" ", 1)[0]
        origins[name] = by_name.get(fx_node) or noted_origin(node.metadata_props)
        if fx_node in exported_nodes:
            made_of[name] = exported_nodes[fx_node]
    return model, origins, made_of


def _rewrite(model: ir.Model, method: Method, *, activations: Activations, dot_product: bool) -> None:
    graph = model.graph
    rewrites.strip_metadata(model)
    if method == "dynamic":
        multiply_integers(graph, integer_layers(graph))
        quantize_recurrent_layers(model)
    elif method == "weight-only":
        model.opset_imports[DOMAIN] = 1
        layers = list(integer_layers(graph))
        few = [layer for layer in layers if dot_product or layer.bits == 4]  # noqa: PLR2004  # int4
        multiply_few_bits(graph, few)
        multiply_integers(graph, [layer for layer in layers if layer not in few])
    rewrites.pad_inside_convolutions(graph)
    rewrites.protect_padding_of_pools(graph)
    rewrites.pool_globally(graph)
    rewrites.clamp_integers(graph)
    rewrites.transpose_weights(graph)
    rewrites.multiply_as_gemm(graph)
    rewrites.quantize_biases(graph)
    rewrites.keep_in_float(graph)
    if activations == "uint8":
        rewrites.use_unsigned_activations(graph)
        rewrites.read_blocks_as_channels(graph)
    rewrites.multiply_hard_swish(graph)  # its constants get the dtype that activations have by now
    rewrites.read_bytes_as_they_are(graph)
    ir.passes.common.RemoveUnusedNodesPass()(model)
    ir.passes.common.TopologicalSortPass()(model)
    model.producer_name, model.producer_version = "edgeq", importlib.metadata.version("edgeq")


def _coverage(
    program: QuantizedProgram, model: ir.Model, nodes: Nodes, operators: tuple[FileOperator, ...]
) -> Coverage:
    total = sum(node.macs for node in nodes.nodes)
    told = [node for node in nodes.nodes if node.code and (node.macs or not program.quantizes_at_run_time)]
    return Coverage(
        macs=total_macs(program.float_program.graph.nodes),
        int8_mac_share=share(sum(node.macs for node in nodes.nodes if node.runs == "int8"), total),
        delegated_mac_share=share(sum(node.macs for node in nodes.nodes if node.delegated), total),
        partitions=1,
        undelegated=grouped(map(as_undelegated, told)),
        requires=Requires(
            runtime="onnxruntime",
            version=importlib.metadata.version("onnxruntime"),
            ops=tuple(sorted({node.op_type for node in model.graph})),
            backends=("CPUExecutionProvider",),
        ),
        inputs=_named_as_in_the_file(tensor_specs(program, "inputs"), model.graph.inputs),
        outputs=_named_as_in_the_file(tensor_specs(program, "outputs"), model.graph.outputs),
        output_scales=output_scales(program),
        nodes=nodes,
        operators=operators,
    )


def _named_as_in_the_file(specs: tuple[TensorSpec, ...], values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=value.name or "", shape=spec.shape, dtype=spec.dtype)
        for spec, value in zip(specs, values, strict=True)
    )


def _cost(node: ir.Node) -> int:
    return integer_macs(node) if node.op_type in ("MatMulInteger", "ConvInteger", "MatMulNBits") else _macs(node)


def _macs(node: ir.Node) -> int:
    """Multiply-accumulates of an ONNX node, counted as :func:`edgeq.quantize.macs.macs` counts them."""
    if node.op_type == "Einsum":
        equation = node.attributes["equation"].as_string()
        return einsum_macs(equation, [_shape(value) for value in node.inputs])
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "DynamicQuantizeLSTM", *RECURRENT):
        return 0
    left, right = (_shape(value) for value in node.inputs[:2])
    output = _shape(node.outputs[0])
    match node.op_type:
        case "Conv":
            return math.prod(output) * math.prod(right[1:])
        case "ConvTranspose":
            return math.prod(left) * math.prod(right[1:])
        case "LSTM" | "GRU" | "RNN" | "DynamicQuantizeLSTM":
            return math.prod(left[:2]) * (math.prod(right) + math.prod(_shape(node.inputs[2])))
    transposed = node.attributes.get("transA")
    inner = left[0] if transposed is not None and transposed.as_int() else left[-1]
    return math.prod(output) * inner


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    if value is None or value.shape is None:
        return (0,)
    return tuple(int(size) for size in value.shape.numpy())
