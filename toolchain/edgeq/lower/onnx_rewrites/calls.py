"""A result that is stored at several scales, computed once for each."""

from __future__ import annotations

import onnx_ir as ir

from edgeq.lower.onnx_graph import constant, insert_before

_INT8_BETWEEN_DQ_AND_Q = frozenset(("Conv", "Gemm", "MatMul", "Add", "Mul", "ReduceMean"))
_IN_FRONT_OF_THEM = frozenset(("Pad", "Transpose"))


def compute_each_call(graph: ir.Graph) -> None:
    """Compute a result once for each QuantizeLinear that reads it; to be done before any other rewrite.

    The exporter merges calls of one layer on one input, also where their
    results are stored at different scales. ONNX Runtime's int8 kernels
    store at a single one, and it would compute the layer in float.

    Before: Q and DQ stand where the exporter put them. After: every int8
    result has one QuantizeLinear that reads it, unless it is computed in
    float anyway.
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
        again = {given: _again(given, number) for given in dict.fromkeys(inputs) if given is not None}
        inputs = [None if given is None else again[given] for given in inputs]
        if inputs == list(node.inputs):
            return value
    name = f"{node.name}_again{number}"
    new = ir.node(node.op_type, inputs, attributes, name=name, metadata_props=node.metadata_props)
    new.outputs[0].name, new.outputs[0].shape, new.outputs[0].type = f"{name}_value", value.shape, value.type
    insert_before(node, new)
    return new.outputs[0]
