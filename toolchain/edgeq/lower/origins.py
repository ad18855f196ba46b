"""Which node of the user's model each operator of a file was made of."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeq.quantize.macs import operator_name
from edgeq.quantize.source import module_of, origin_of, source_of
from edgeq.records import FileOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import onnx_ir as ir
    from torch.export import ExportedProgram
    from torch.fx import Node

    from edgeq.lower.executorch_watch import Call, Watched
    from edgeq.lower.xnnpack import LoweredBackendModule

_BOOKKEEPING = ("getitem", "alloc")
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def operators_of_pte(lowered: ExportedProgram, watched: Watched) -> Iterator[FileOperator]:
    """The operators of a lowered program in order, each delegate's in the place of its call."""
    partition = 0
    modules = dict(lowered.graph_module.named_children())
    for node in lowered.graph.nodes:
        if node.op != "call_function" or operator_name(node) in _BOOKKEEPING:
            continue
        if operator_name(node) != "executorch_call_delegate":
            yield _made_of(node, name=_kernel_name(node), op=operator_name(node))
            continue
        module: LoweredBackendModule = modules[str(node.args[0])]
        by_handle: dict[int, Node] = {}
        for one in module.original_module.graph.nodes:
            if one.op == "call_function" and origin_of(one):
                by_handle.setdefault(one.meta.get("debug_handle", -1), one)
        for made in watched.calls[bytes(module.processed_bytes)]:
            origin = _made_of(by_handle.get(made.handle), name=f"XNN{made.kernel}", op=_operator(made))
            yield replace(origin, elements=math.prod(made.output.shape), partition=partition)
        partition += 1


def _operator(call: Call) -> str:
    if call.kernel != "Convert":
        return f"XNN{call.kernel}"
    return _QUANTIZE if all(tensor.kind == "fp32" for tensor in call.inputs) else _DEQUANTIZE


def _kernel_name(node: Node) -> str:
    """As the runtime calls the kernel, without the namespace."""
    overload = str(getattr(node.target, "_overloadname", "") or "")
    return f"{operator_name(node)}.{overload}" if overload else operator_name(node)


def _made_of(node: Node | None, *, name: str, op: str) -> FileOperator:
    if node is None:
        return FileOperator(name=name, op=op)
    return FileOperator(name=name, op=op, node=origin_of(node), module=module_of(node), source=source_of(node))


def operators_of_onnx(graph: ir.Graph, made_of: Mapping[str, Node]) -> Iterator[FileOperator]:
    """The nodes of an ONNX graph; ``made_of`` has the exported nodes by the names of those made of them."""

    def near(node: ir.Node) -> Node | None:
        found: Node | None = made_of.get(node.name or "")
        return found if found is not None and origin_of(found) else None

    for node in graph:
        found = replace(
            _made_of(near(node) or _converted(node, near), name=node.name or "", op=node.op_type),
            outputs=tuple(output.name or "" for output in node.outputs),
            elements=_elements(node.outputs[0]),
        )
        source = _in_front(node) if node.op_type == _QUANTIZE else None
        yield replace(found, node=source.name or "") if source is not None and source.is_graph_input() else found


def _converted(node: ir.Node, near: Callable[[ir.Node], Node | None]) -> Node | None:
    """The node that gives the floats of a conversion, or the first that reads them."""
    if node.op_type == _QUANTIZE:
        source = _in_front(node)
        giver = None if source is None else source.producer()
        return None if giver is None else near(giver)
    if node.op_type != _DEQUANTIZE:
        return None
    waiting = [reader for reader, _ in node.outputs[0].uses()]
    while waiting:
        reader = waiting.pop(0)
        if (found := near(reader)) is not None:
            return found
        if reader.op_type in (_QUANTIZE, _DEQUANTIZE):
            waiting += [after for after, _ in reader.outputs[0].uses()]
    return None


def _in_front(node: ir.Node) -> ir.Value | None:
    """What a conversion is of, before any other conversion."""
    value = node.inputs[0]
    while value is not None and (giver := value.producer()) is not None and giver.op_type in (_QUANTIZE, _DEQUANTIZE):
        value = giver.inputs[0]
    return value


def _elements(value: ir.Value) -> int:
    if value.shape is None or not value.shape.is_static():
        return 0
    return math.prod(int(size) for size in value.shape.numpy())
