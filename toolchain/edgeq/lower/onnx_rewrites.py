"""Rewrites of an exported QDQ graph after which ONNX Runtime fuses every int8 layer.

Each takes the graph, changes it in place, and keeps what it computes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.lower.onnx_graph import add_constant, constant, insert_before, ints, only_consumer, producer

_INT8_BETWEEN_DQ_AND_Q = frozenset(("Conv", "Gemm", "MatMul", "Add", "Mul", "ReduceMean"))
_IN_FRONT_OF_THEM = frozenset(("Pad", "Transpose"))


def compute_each_call(graph: ir.Graph) -> None:
    """Compute a result once for each QuantizeLinear that reads it; to be done before any other rewrite.

    The exporter merges calls of one layer on one input, also where their
    results are stored at different scales. ONNX Runtime's int8 kernels
    store at a single one, and it would compute the layer in float.
    """
    for node in [node for node in graph if node.op_type in _INT8_BETWEEN_DQ_AND_Q]:
        result = node.outputs[0]
        readers = [use.node for use in result.uses()]
        stored = not result.is_graph_output() and all(reader.op_type == "QuantizeLinear" for reader in readers)
        if stored and _comes_from_integers(result):
            for number, reader in enumerate(readers[1:], 1):
                reader.replace_input_with(0, _again(result, number))


def _comes_from_integers(value: ir.Value | None) -> bool:
    """Whether only what a kernel of integers may hold stands between ``value`` and DequantizeLinear or constants."""
    node = None if value is None else value.producer()
    if value is None or node is None:
        return value is None or constant(value) is not None
    if node.op_type == "DequantizeLinear":
        return True
    return node.op_type in _INT8_BETWEEN_DQ_AND_Q | _IN_FRONT_OF_THEM and all(map(_comes_from_integers, node.inputs))


def _again(value: ir.Value, number: int) -> ir.Value:
    """``value`` computed once more; ``value`` itself where it is a weight.

    ONNX Runtime's optimizer would merge copies again, whatever their names,
    unless an attribute differs. It does in what they all read: the axis of
    a DequantizeLinear, which says nothing where there is a single scale.
    """
    node = value.producer()
    if node is None or (node.op_type == "DequantizeLinear" and constant(node.inputs[0]) is not None):
        return value
    attributes, inputs = dict(node.attributes), list(node.inputs)
    if node.op_type == "DequantizeLinear":
        attributes["axis"] = ir.AttrInt64("axis", -number)
    else:
        inputs = [None if given is None else _again(given, number) for given in inputs]
        if inputs == list(node.inputs):
            return value
    name = f"{node.name}_again{number}"
    new = ir.node(node.op_type, inputs, attributes, name=name, metadata_props=node.metadata_props)
    new.outputs[0].name, new.outputs[0].shape, new.outputs[0].type = f"{name}_value", value.shape, value.type
    insert_before(node, new)
    return new.outputs[0]


def strip_metadata(model: ir.Model) -> None:
    """Remove the exporter's notes: source lines and paths of the machine it ran on have no place in a product."""
    for holder in (model, model.graph, *model.graph, *model.graph.inputs, *model.graph.outputs):
        holder.metadata_props.clear()
        holder.meta.clear()
    for node in model.graph:
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()


def pad_inside_convolutions(graph: ir.Graph) -> None:
    """Turn ``Pad -> Conv`` into a convolution with (unequal) ``pads``: a Pad between DQ and Conv hinders the fusion."""
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


def protect_padding_of_pools(graph: ir.Graph) -> None:
    """Name the axes of a Pad that a MaxPool reads.

    ONNX Runtime's optimizer (seen in 1.31) takes such a Pad into the pool,
    which then pads with the smallest number instead of the Pad's value. It
    leaves a Pad alone that names its axes.
    """
    for pad in [node for node in graph if node.op_type == "Pad"]:
        amounts = constant(pad.inputs[1])
        if only_consumer(pad.outputs[0], "MaxPool") is None or amounts is None or len(pad.inputs) > 3:  # noqa: PLR2004  # axes
            continue
        axes = add_constant(graph, f"{pad.name}_axes", np.arange(len(amounts) // 2, dtype=np.int64))
        new = ir.node(
            "Pad", [*pad.inputs, *[None] * (3 - len(pad.inputs)), axes], pad.attributes, name=pad.name or "",
            outputs=list(_taken_outputs(pad)),
        )  # fmt: skip
        _replace(pad, new)


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


def pool_globally(graph: ir.Graph) -> None:
    """Write ``ReduceMean`` over the plane as ``GlobalAveragePool``, for which there is an int8 kernel."""
    for mean in [node for node in graph if node.op_type == "ReduceMean"]:
        axes = constant(mean.inputs[1]) if len(mean.inputs) > 1 else None
        shape = mean.inputs[0].shape if mean.inputs[0] is not None else None
        keeps = mean.attributes.get("keepdims")
        if axes is None or shape is None or len(shape) != 4 or (keeps is not None and not keeps.as_int()):  # noqa: PLR2004  # (batch, channels, height, width)
            continue
        if sorted(int(axis) % 4 for axis in axes) != [2, 3]:
            continue
        pool = ir.node("GlobalAveragePool", [mean.inputs[0]], name=mean.name, outputs=list(_taken_outputs(mean)))
        _replace(mean, pool)


def clamp_integers(graph: ir.Graph) -> None:
    """Write ``Q -> DQ -> clamp -> Q`` at one scale as a clamp of the integers."""
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


def transpose_weights(graph: ir.Graph) -> None:
    """Transpose int8 weights in the file: a Transpose between DQ and MatMul hinders the fusion."""
    for transpose in [node for node in graph if node.op_type == "Transpose"]:
        read = producer(transpose.inputs[0], "DequantizeLinear")
        weight = None if read is None else constant(read.inputs[0])
        if read is None or weight is None or weight.ndim != 2 or weight.dtype != np.int8:  # noqa: PLR2004  # a matrix
            continue
        assert read.inputs[0] is not None  # noqa: S101  # a constant has just been read from it
        turned = add_constant(graph, f"{read.inputs[0].name}_transposed", np.ascontiguousarray(weight.T))
        axis = read.attributes.get("axis")
        new = ir.node(
            "DequantizeLinear",
            [turned, *read.inputs[1:]],
            {"axis": 1 - (axis.as_int() if axis is not None else 1)},
            name=f"{transpose.name}_weight",
            outputs=list(_taken_outputs(transpose)),
        )
        _replace(transpose, new)


def multiply_as_gemm(graph: ir.Graph) -> None:
    """Write an int8 ``MatMul`` of a tensor of three or more dimensions, and its bias, as ``Gemm`` over its rows.

    ONNX Runtime has an int8 kernel with a bias for ``Gemm`` alone; as
    ``MatMul`` and ``Add`` both would be computed in float. The reshapes
    stand between Q and DQ, where they cost nothing.
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


def quantize_biases(graph: ir.Graph) -> None:
    """Store the bias of an int8 layer as int32 at input scale x weight scale, as both runtimes add it.

    Rounded as ExecuTorch does it, so that both artifacts add the same
    integers.
    """
    for layer in [node for node in graph if node.op_type in ("Conv", "Gemm")]:
        if len(layer.inputs) < 3 or layer.inputs[2] is None:  # noqa: PLR2004  # input, weight, bias
            continue
        reads = [producer(value, "DequantizeLinear") for value in layer.inputs[:2]]
        bias = constant(layer.inputs[2])
        if None in reads or bias is None or bias.dtype != np.float32 or bias.ndim != 1:
            continue
        input_scale, weight_scale = (constant(read.inputs[1]) for read in reads if read is not None)
        if input_scale is None or weight_scale is None or input_scale.size != 1:
            continue
        scale = (weight_scale * input_scale.astype(np.float32)).astype(np.float32)
        inverse = (np.float32(1) / scale).astype(np.float32)
        limits = np.iinfo(np.int32)
        integers = np.clip(np.round(bias * inverse).astype(np.float64), limits.min, limits.max).astype(np.int32)
        name = f"{layer.name}_bias"
        read_bias = ir.node(
            "DequantizeLinear",
            [add_constant(graph, f"{name}_int32", integers), add_constant(graph, f"{name}_scale", scale)],
            {"axis": 0},
            name=name,
        )
        read_bias.outputs[0].name = f"{name}_float"
        read_bias.outputs[0].dtype = ir.DataType.FLOAT
        read_bias.outputs[0].shape = ir.Shape(bias.shape)
        insert_before(layer, read_bias)
        layer.replace_input_with(2, read_bias.outputs[0])


def use_unsigned_activations(graph: ir.Graph) -> None:
    """Store activations as uint8 with every integer and zero point 128 higher: the same real values, bit by bit.

    x86 kernels of ONNX Runtime multiply uint8 by int8. Weights stay int8.
    """
    for node in list(graph):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or constant(node.inputs[0]) is not None:
            continue
        zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else None  # noqa: PLR2004  # data, scale, zero point
        if zero_point is None or zero_point.dtype != np.int8:
            continue
        assert node.inputs[2] is not None  # noqa: S101  # a constant has just been read from it
        node.replace_input_with(2, _raised(graph, node.inputs[2]))
        stored = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
        assert stored is not None  # noqa: S101  # both operators have it
        stored.dtype = ir.DataType.UINT8
        output_dtype = node.attributes.get("output_dtype")
        if node.op_type == "QuantizeLinear" and output_dtype is not None and output_dtype.as_int():
            node.attributes["output_dtype"] = ir.AttrInt64("output_dtype", int(ir.DataType.UINT8))
    for clamp in [node for node in graph if node.op_type == "Clip"]:
        for index in (1, 2):
            bound = clamp.inputs[index] if len(clamp.inputs) > index else None
            array = constant(bound)
            if bound is not None and array is not None and array.dtype == np.int8:
                clamp.replace_input_with(index, _raised(graph, bound))


def read_bytes_as_they_are(graph: ir.Graph) -> None:
    """Give an input of bytes to who reads the same integers: ``DQ -> Q`` at one scale and zero point is nothing."""
    for quantize in [node for node in graph if node.op_type == "QuantizeLinear"]:
        read = producer(quantize.inputs[0], "DequantizeLinear")
        image = None if read is None else read.inputs[0]
        if read is None or image is None or not image.is_graph_input():
            continue
        numbers = [[constant(value) for value in node.inputs[1:]] for node in (read, quantize)]
        if all(
            a is not None and b is not None and a.dtype == b.dtype and (a == b).all()
            for a, b in zip(*numbers, strict=True)
        ):
            ir.convenience.replace_all_uses_with(quantize.outputs[0], image)


def _raised(graph: ir.Graph, value: ir.Value) -> ir.Value:
    array = constant(value)
    assert array is not None  # noqa: S101  # the callers have checked it
    return add_constant(graph, f"{value.name}_unsigned", (array.astype(np.int16) + 128).astype(np.uint8))


def _taken_outputs(node: ir.Node) -> tuple[ir.Value, ...]:
    """Fresh values that look like the outputs of ``node``."""
    return tuple(ir.Value(name=f"{value.name}_new", shape=value.shape, type=value.type) for value in node.outputs)


def _replace(old: ir.Node, new: ir.Node) -> None:
    insert_before(old, new)
    for before, after in zip(old.outputs, new.outputs, strict=True):
        ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    assert isinstance(old.graph, ir.Graph)  # noqa: S101  # edgeq exports no functions
    old.graph.remove(old, safe=True)
