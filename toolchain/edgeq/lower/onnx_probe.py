"""Probes of an .onnx, made of the file itself.

What a QuantizeLinear gives becomes an output as the integers it is: ONNX
Runtime fuses everything in front of it all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from edgeq.files import write_bytes
from edgeq.lower.onnx_graph import constant
from edgeq.lower.onnx_nodes import MOVES
from edgeq.lower.probes import Point, Points
from edgeq.records import Layer, NotProbed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from edgeq.records import FileOperator

_FUSED_WITH_WHAT_IS_BEFORE = frozenset({"Relu", "Clip", "LeakyRelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh"})
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_FLOATS = (None, ir.DataType.FLOAT)
"""Types of results that can be compared; None is not known from the file, and ONNX Runtime tells."""


def points_of(path: Path, operators: Sequence[FileOperator]) -> Points:
    """What can be looked at in the file: its int8 tensors, and float results that no neighbour is fused with.

    ``operators`` say which node of the user's model each was made of. Of
    several that one node became, the last counts.
    """
    graph = ir.from_proto(onnx.load(path)).graph
    origins = {output: one for one in operators for output in one.outputs}
    points: dict[str, Point] = {}
    fused: dict[str, NotProbed] = {}
    for node in _computed(graph):
        value = node.outputs[0]
        origin = origins.get(value.name or "")
        if origin is None or not origin.node:
            continue
        layer = Layer(node=origin.node, op=node.op_type, module=origin.module, source=origin.source)
        readers = [reader for reader, _ in value.uses()]
        alone = len(readers) == 1 and not value.is_graph_output()
        if node.op_type == "QuantizeLinear":
            points.pop(layer.node, None)
            points[layer.node] = _stored(node, layer)
        elif node.op_type in MOVES or (readers and all(reader.op_type == "QuantizeLinear" for reader in readers)):
            continue
        elif alone and readers[0].op_type in _FUSED_WITH_WHAT_IS_BEFORE:
            fused[layer.node] = NotProbed(layer=layer, reason=f"computed in one with {readers[0].op_type} behind it")
        elif value.dtype in _FLOATS:
            points.pop(layer.node, None)
            points[layer.node] = Point(layer=layer, value=value.name or "")
    return Points(
        outputs=tuple(value.name or "" for value in graph.outputs),
        points=tuple(points.values()),
        not_probed=tuple(one for name, one in fused.items() if name not in points),
    )


def write_probe(path: Path, values: Collection[str], probe: Path) -> None:
    """Write the file at ``path`` with ``values`` as further outputs, in their order in the graph, to ``probe``."""
    model = ir.from_proto(onnx.load(path))
    given_anyway = {value.name for value in model.graph.outputs}
    model.graph.outputs.extend(
        node.outputs[0]
        for node in _computed(model.graph)
        if node.outputs[0].name in values and node.outputs[0].name not in given_anyway
    )
    write_bytes(probe, ir.to_proto(model).SerializeToString(deterministic=True))


def _computed(graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes whose results depend on the model's input, in order, but for those that read integers back."""
    depending = set(graph.inputs) - set(graph.initializers.values())
    for node in graph:
        if depending.isdisjoint(node.inputs):
            continue
        depending.update(node.outputs)
        if node.op_type != "DequantizeLinear":
            yield node


def _stored(node: ir.Node, layer: Layer) -> Point:
    scale, zero_point = (constant(value) for value in (*node.inputs[1:], None)[:2])
    source = node.inputs[0]
    giver = None if source is None else source.producer()
    return Point(
        layer=Layer(
            node=layer.node,
            op=layer.op if giver is None else giver.op_type,
            module=layer.module,
            source=layer.source,
        ),
        value=node.outputs[0].name or "",
        scale=None if scale is None else float(scale),
        zero_point=0 if zero_point is None else int(zero_point),
    )
