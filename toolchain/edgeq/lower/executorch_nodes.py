"""Every node of a .pte: what XNNPACK computes it on, and why it was left out where it was.

Nothing is taken from what was asked for. The graphs that XNNPACK is handed
say what each node became and which transposes and conversions were put
between; the partitioner says why it left what it left
(:mod:`edgeq.lower.executorch_watch`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgeq.lower.coverage import share
from edgeq.lower.executorch_watch import INTEGERS, Call, Watched, has_open_shape, plain_dtype, plain_name, values_of
from edgeq.lower.reasons import Why, for_recipe, rewrite_of
from edgeq.lower.xnnpack import (
    INT8_KERNELS,
    LoweredBackendModule,
    is_dequant,
    is_qparam,
    is_quant,
)
from edgeq.lower.xnnpack_float import is_float_by_choice
from edgeq.quantize.macs import macs, operator_name, total_macs
from edgeq.quantize.source import class_of, earlier_names, module_of, place_of, source_of
from edgeq.records import Movement, NodeFacts, Nodes, Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch.export import ExportedProgram
    from torch.fx import Node

    from edgeq.quantize import QuantizedProgram
    from edgeq.records import Runs

MOVES = frozenset(
    {
        "view_copy", "permute_copy", "transpose_copy", "slice_copy", "select_copy", "cat", "stack", "split_copy",
        "split_with_sizes_copy", "unbind_copy", "squeeze_copy", "unsqueeze_copy", "expand_copy", "constant_pad_nd",
        "clone", "alias_copy", "_to_copy", "_to_dim_order_copy", "_clone_dim_order", "index_select", "index", "gather",
        "flip", "repeat", "embedding", "pixel_shuffle", "pixel_unshuffle", "as_strided_copy", "unfold_copy",
        "slice_scatter", "select_scatter", "scatter", "reflection_pad1d", "reflection_pad2d", "replication_pad1d",
        "replication_pad2d",
    }
)  # fmt: skip
"""Operators whose results are values of their inputs, or a constant: there is nothing to compute."""

_PLANNED = frozenset(
    {
        "convolution", "linear", "addmm", "mm", "add", "mul", "mean", "cat", "max_pool2d", "clamp", "hardtanh", "relu",
        "elu", "gelu", "hardswish", "leaky_relu", "sigmoid", "tanh",
    }
)  # fmt: skip
"""What :mod:`edgeq.quantize.plan` makes int8 where its neighbours allow: what both runtimes have kernels for."""

_BOOKKEEPING = frozenset({"getitem", "executorch_call_delegate", "alloc"})
_OVERLOAD = re.compile(r"^aten_|_(default|[a-z]+_?[A-Z]\w*|tensor|dim|scalar)(_\d+)?$")
"""What ExecuTorch makes of an operator's name to name its nodes."""

_RECURRENT = ("LSTM", "GRU", "RNN")
"""Modules that a .pte has step by step."""

_BYTES_OF_AN_IMAGE = Why(
    "uint8-input", "XNNPACK takes no bytes; a kernel of ExecuTorch makes floats of the image in front of it"
)
_FASTER_IN_FLOAT = Why(
    "float-faster", "XNNPACK is faster in float on the target's processor at a depthwise filter as large as this"
)


def nodes_of(program: QuantizedProgram, lowered: ExportedProgram, watched: Watched) -> Nodes:
    """All that is known of the nodes of ``lowered``."""
    parts = [
        _Part(index, module, watched.calls[bytes(module.processed_bytes)])
        for index, module in enumerate(delegates(lowered))
    ]
    outside = [node for node in lowered.graph.nodes if is_operator(node)]
    total = sum(total_macs(part.nodes) for part in parts) + total_macs(outside)
    facts = [
        _left_out(node, _BYTES_OF_AN_IMAGE if _reads_bytes(node) else watched.refusals[node.name], total)
        for node in outside
        if _reads_bytes(node) or not only_converts(node)
    ]
    for part in parts:
        facts += [_facts(part, node, program, total) for node in part.nodes]
    return Nodes(
        nodes=tuple(facts),
        partitions=tuple(part.record(total) for part in parts),
        movements=(
            *(move for part in parts for move in part.movements()),
            *(movement_of(node) for node in outside if turns_or_converts(node)),
        ),
    )


def only_moves_values(node: Node) -> bool:
    """Whether a node of an exported program, before it is lowered, computes nothing."""
    name = operator_name(node)
    return name in MOVES or f"{name}_copy" in MOVES or name in ("reshape", "flatten", "contiguous")


def delegates(lowered: ExportedProgram) -> Iterator[LoweredBackendModule]:
    """The partitions, in the order in which they run."""
    for node in lowered.graph.nodes:
        if node.op == "call_function" and operator_name(node) == "executorch_call_delegate":
            yield getattr(lowered.graph_module, str(node.args[0].target))


def is_operator(node: Node) -> bool:
    """Whether a node gives tensors; others compute sizes, or hold partitions."""
    return node.op == "call_function" and operator_name(node) not in _BOOKKEEPING and bool(values_of(node))


def _reads_bytes(node: Node) -> bool:
    return operator_name(node) == "dequantize_per_tensor" and node.args[0].op == "placeholder"  # type: ignore[union-attr]  # it reads a node


def only_converts(node: Node) -> bool:
    """Whether a node turns floats into integers, or back, or says how."""
    return bool(is_quant(node) or is_dequant(node) or is_qparam(node))


class _Part:
    """One partition: the nodes that went in, and the calls that XNNPACK makes of them."""

    def __init__(self, index: int, module: LoweredBackendModule, calls: Sequence[Call]) -> None:
        self.index = index
        self.program: ExportedProgram = module.original_module
        self.calls = calls
        self.nodes = [node for node in self.program.graph.nodes if is_operator(node) and not only_converts(node)]
        self.constants = {
            *self.program.graph_signature.inputs_to_parameters,
            *self.program.graph_signature.inputs_to_buffers,
            *self.program.graph_signature.inputs_to_lifted_tensor_constants,
        }
        self._by_handle: dict[int, list[Node]] = defaultdict(list)
        for node in self.nodes:
            self._by_handle[node.meta.get("debug_handle", 0)].append(node)
        self.became = dict(self._paired())

    def _paired(self) -> Iterator[tuple[Node, Call]]:
        """Each node with its call. Nodes that come of one operator of the model's have one handle, in their order."""
        made: dict[int, list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.kernel != "Convert" or call.handle in self._by_handle:
                made[call.handle].append(call)
        for handle, nodes in self._by_handle.items():
            calls = [call for call in made[handle] if call.kernel != "Convert"]
            if len(nodes) == 1 and operator_name(nodes[0]) == "_to_dim_order_copy":
                calls = made[handle]
            if len(calls) == len(nodes):
                yield from zip(nodes, calls, strict=True)
            elif len(nodes) == 1 and calls:
                yield nodes[0], calls[-1]
            else:
                yield from _by_kind(nodes, calls)

    def fused_into(self, node: Node) -> Call | None:
        """The call that computes ``node`` if it has none of its own: that of what it reads, or of what reads it."""
        for neighbour in (*node.all_input_nodes, *node.users):
            for near in (neighbour, *neighbour.all_input_nodes):
                if near in self.became:
                    return self.became[near]
        return None

    def record(self, total: int) -> Partition:
        """What it holds, and what crosses its edges."""
        outputs = next(node for node in self.program.graph.nodes if node.op == "output").all_input_nodes
        inputs = [
            node for node in self.program.graph.nodes if node.op == "placeholder" and node.name not in self.constants
        ]
        return Partition(
            index=self.index,
            operators=dict(Counter(operator_name(node) for node in self.nodes).most_common()),
            mac_share=share(total_macs(self.nodes), total) if total else 0.0,
            bytes_in=sum(map(size_of, inputs)),
            bytes_out=sum(map(size_of, outputs)),
        )  # fmt: skip

    def movements(self) -> Iterator[Movement]:
        """Its transposes and conversions."""
        for call in self.calls:
            kind = _kind(call)
            if kind is not None:
                node = self._node_of.get(id(call))
                yield Movement(
                    kind=kind,
                    node="" if node is None else node.name,
                    at=source_of(node) if node is not None else self._beside(call),
                    bytes=call.output.bytes + sum(tensor.bytes for tensor in call.inputs),
                    partition=self.index,
                    inserted=node is None,
                )

    def _beside(self, call: Call) -> str:
        """``in front of`` the next node of the model that reads it, or ``behind`` the last."""
        ahead = _nearest(call, lambda one: self._readers.get(one.writes, ()), self._node_of)
        if ahead is not None:
            return f"in front of {called(ahead)}"
        behind = _nearest(
            call, lambda one: [self._writer[value] for value in one.reads if value in self._writer], self._node_of
        )
        return f"behind {called(behind)}" if behind is not None else "at the partition's edge"

    @cached_property
    def _node_of(self) -> dict[int, Node]:
        return {id(call): node for node, call in self.became.items()}

    @cached_property
    def _readers(self) -> dict[int, list[Call]]:
        found: dict[int, list[Call]] = defaultdict(list)
        for call in self.calls:
            for value in call.reads:
                found[value].append(call)
        return found

    @cached_property
    def _writer(self) -> dict[int, Call]:
        return {call.writes: call for call in self.calls}


def _nearest(call: Call, step: Callable[[Call], Iterable[Call]], node_of: Mapping[int, Node]) -> Node | None:
    """The node of the first call that has one, going from ``call`` by ``step``."""
    ahead = list(step(call))
    while ahead:
        other = ahead.pop(0)
        if id(other) in node_of:
            return node_of[id(other)]
        ahead += step(other)
    return None


def _by_kind(nodes: Sequence[Node], calls: Sequence[Call]) -> Iterator[tuple[Node, Call]]:
    """Nodes of one handle with the calls that bear their names, where some of the nodes have none."""
    left = list(calls)
    for node in nodes:
        name = operator_name(node).replace("_", "").removesuffix("copy")
        for call in left:
            if call.kernel.lower().removeprefix("static").startswith(name[:4]):
                yield node, call
                left.remove(call)
                break


def _kind(call: Call) -> Any:  # noqa: ANN401  # one of the kinds of a movement, or None
    match call.kernel:
        case "StaticTranspose":
            return "transpose"
        case "Copy":
            return "copy"
        case "Convert":
            if call.output.kind not in INTEGERS:
                return "dequantize"
            return "copy" if call.in_int8 else "quantize"
    return None


def _facts(part: _Part, node: Node, program: QuantizedProgram, total: int) -> NodeFacts:
    own = part.became.get(node)
    call = own or part.fused_into(node)
    runs = _runs(node, call if own or not macs(node) else None)
    why = Why()
    if runs == "float" and program.recipe.quantized:
        why = _why_float(part, node, program)
    return fact_of(
        node, runs=runs, kernel=call.kernel if call else "", delegated=True, partition=part.index, total=total, why=why
    )


def _runs(node: Node, call: Call | None) -> Runs:
    if operator_name(node) in MOVES:
        return "moves"
    if not any(dtype.startswith(("float", "bfloat")) for dtype in _dtypes(node, inputs=False)):
        return "other"
    return "int8" if call is not None and call.in_int8 else "float"


def _left_out(node: Node, why: Why, total: int) -> NodeFacts:
    return fact_of(
        node, runs=_runs(node, None), kernel=operator_name(node), delegated=False, partition=None, total=total, why=why
    )


def fact_of(  # noqa: PLR0913  # what is known of a node
    node: Node, *, runs: Runs, kernel: str, delegated: bool, partition: int | None, total: int, why: Why
) -> NodeFacts:
    """The record of a node; ``total`` are the MACs of the whole file."""
    name = operator_name(node)
    count = macs(node)
    return NodeFacts(
        node=node.name,
        op=getattr(node.target, "__name__", str(node.target)),
        module=module_of(node),
        source=source_of(node),
        runs=runs,
        kernel=kernel,
        delegated=delegated,
        partition=partition,
        macs=count,
        mac_share=share(count, total) if total else 0.0,
        code=why.code,
        reason=why.sentence,
        rewrite=rewrite_of("pte", name, why, source_of(node)),
    )


def _why_float(part: _Part, node: Node, program: QuantizedProgram) -> Why:
    name = operator_name(node)
    constants = part.constants
    layer = bool(macs(node)) and any(arg.name in constants for arg in node.all_input_nodes)
    chosen = for_recipe(
        program.recipe, names=earlier_names(node), is_layer=layer, is_product=bool(macs(node)) and not layer
    )
    if chosen is None and program.looped is not None and class_of(node) in _RECURRENT:
        chosen = Why("excluded-by-recipe", f"{program.recipe.name} leaves recurrent layers in float")
    if chosen is None and is_float_by_choice(node):
        chosen = _FASTER_IN_FLOAT
    if chosen is not None:
        return chosen
    if name not in INT8_KERNELS:
        return Why("float-kernel", f"XNNPACK computes {plain_name(name)} in float alone")
    if name not in _PLANNED:
        return Why(
            "no-common-kernel",
            f"XNNPACK has an int8 kernel for {name} and ONNX Runtime has none; one graph serves both formats",
        )
    floats = [arg for arg in node.all_input_nodes if not is_dequant(arg)]
    if any(arg.name in constants or "lifted_tensor_constant" in arg.name for arg in floats):
        return Why("float-operands", "it computes with a constant, which stays float")
    if floats:
        return Why("float-operands", f"it reads {called(floats[0])}, which is float")
    readers = [user for user in node.users if not is_quant(user)]
    what = called(readers[0]) if readers and readers[0].op == "call_function" else "the model's output"
    return Why("float-operands", f"its result goes to {what} in float")


def called(node: Node) -> str:
    """``conv2d (features.0 net.py:7)``: what a person finds in the model."""
    name = operator_name(node) or _OVERLOAD.sub("", node.name)
    if name.startswith("getitem"):  # one of the results of an operator that the partition does not see
        name = "a value"
    told = " ".join(filter(None, (module_of(node), place_of(source_of(node)))))
    return f"{plain_name(name)} ({told})" if told else f"{plain_name(name)}"


def turns_or_converts(node: Node) -> bool:
    """Whether a node of a lowered program computes nothing."""
    return only_converts(node) or operator_name(node) in MOVES


def movement_of(node: Node) -> Movement:
    """The record of a node outside of all partitions that computes nothing."""
    name = operator_name(node)
    # ExecuTorch makes a view of this one, which moves nothing.
    size = (
        0 if name == "view_copy" else None if has_open_shape(node) else sum(map(size_of, (node, *node.all_input_nodes)))
    )
    kind = "transpose" if name in ("permute_copy", "transpose_copy") else "copy"
    return Movement(
        kind="quantize" if is_quant(node) else "dequantize" if is_dequant(node) else kind,  # type: ignore[arg-type]
        node=node.name,
        at=source_of(node),
        bytes=size,
        inserted=only_converts(node),
    )


def size_of(node: Node) -> int:
    """Bytes of what a node gives."""
    return sum(value.numel() * value.element_size() for value in values_of(node))


def _dtypes(node: Node, *, inputs: bool = True) -> set[str]:
    around = [*node.all_input_nodes, node] if inputs else [node]
    return {plain_dtype(value.dtype) for near in around for value in values_of(near)}
