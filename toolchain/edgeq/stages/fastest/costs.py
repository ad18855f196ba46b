"""What each operation costs in float and in int8, and a conversion between the two: from profiles of artifacts.

A profile tells of one artifact, so of each operation in one precision: that
of the fp32 artifact of all in float, that of int8-static of all in int8. The
profile of a mixed artifact corrects both where it differs, and tells what
its conversions really took.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgeq.quantize.plan import Operation
from edgeq.stages.fastest.labelling import Choice, Edge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.fx import Graph, Node

    from edgeq.quantize.plan import Plan
    from edgeq.records import OpTime

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_LAYOUT = ("Transpose", "ReorderInput", "ReorderOutput")
_PRODUCTS = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose")
_LEAST_NS = 500
"""Of any conversion: the clocks of both runtimes cut off half a microsecond on average."""
_LARGE = 1024
"""So many elements tell what one of them takes; what converts fewer takes what any kernel does."""
_PLANE = 3
"""From so many dimensions on a tensor has a layout that kernels of a precision may want changed."""
_LEAST_CORRECTION, _MOST_CORRECTION = 0.25, 4.0


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Nanoseconds for each element of a tensor between float and int8; ``layout`` for changing its layout beside.

    ``call`` is what a conversion takes however small it is.
    """

    call: float = _LEAST_NS
    quantize: float = 0.0
    dequantize: float = 0.0
    layout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor that an operation gives or reads; ``readers`` and ``giver`` name operations, None is float anyway."""

    giver: str | None
    readers: tuple[str | None, ...]
    elements: int
    has_layout: bool


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operations of a plan that runs all it can in int8, by the name of their node.

    ``part_of`` maps the nodes of the graph that belong to one; ``layer_before``
    an operation to the layers it reads; ``tensors`` are those between them.
    """

    plan: tuple[Operation, ...]
    part_of: Mapping[str, str]
    layers_before: Mapping[str, tuple[str, ...]]
    tensors: tuple[Tensor, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order of the graph."""
        return tuple(operation.node.name for operation in self.plan)


def operations_of(graph: Graph, plan: Plan) -> Operations:
    """What there is to choose for in a float graph."""
    part_of: dict[str, str] = {}
    stored: dict[Node, Operation] = {}
    for operation in plan.operations:
        for node in (operation.reader, operation.node, operation.output):
            part_of.setdefault(node.name, operation.node.name)
        stored[operation.output] = operation
    layers_before = {
        operation.node.name: tuple(
            stored[tensor].node.name
            for tensor in operation.inputs
            if tensor in stored and stored[tensor].kind == "layer"
        )
        for operation in plan.operations
    }
    read = {tensor: None for operation in plan.operations for tensor in (*operation.inputs, operation.output)}
    tensors = tuple(_tensor(tensor, stored, plan) for tensor in graph.nodes if tensor in read)
    return Operations(plan=plan.operations, part_of=part_of, layers_before=layers_before, tensors=tensors)


def _tensor(tensor: Node, stored: Mapping[Node, Operation], plan: Plan) -> Tensor:
    by_node = {node: one for one in plan.operations if tensor in one.inputs for node in (one.reader, one.node)}
    readers = (by_node.get(user) for user in tensor.users)
    value = tensor.meta["val"]
    return Tensor(
        giver=stored[tensor].node.name if tensor in stored else None,
        readers=tuple(None if reader is None else reader.node.name for reader in readers),
        elements=value.numel(),
        has_layout=value.dim() > _PLANE,
    )


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Nanoseconds of each operation in either precision, and of conversions; ``correction`` of all conversions."""

    float_ns: Mapping[str, int]
    int8_ns: Mapping[str, int]
    rates: Rates
    correction: float = 1.0

    def choices(self, operations: Operations) -> tuple[Choice, ...]:
        """For the cut."""
        return tuple(
            Choice(
                name=one.node.name,
                float_ns=self.float_ns.get(one.node.name, 0),
                int8_ns=self.int8_ns.get(one.node.name, 0),
                chained=one.kind != "layer",
            )
            for one in operations.plan
        )

    def edges(self, operations: Operations) -> tuple[Edge, ...]:
        """For the cut."""
        return tuple(
            Edge(
                giver=tensor.giver,
                readers=tensor.readers,
                quantize_ns=self._conversion(tensor, self.rates.quantize),
                dequantize_ns=self._conversion(tensor, self.rates.dequantize),
            )
            for tensor in operations.tensors
        )

    def _conversion(self, tensor: Tensor, rate: float) -> int:
        layout = self.rates.layout if tensor.has_layout else 0.0
        return round(self.correction * (self.rates.call + tensor.elements * (rate + layout)))


def first_costs(operations: Operations, in_float: Sequence[OpTime], in_int8: Sequence[OpTime]) -> Costs:
    """From the profiles of the two twins."""
    everything = frozenset(operations.names)
    of_float = sorted_out(operations, in_float, frozenset())
    of_int8 = sorted_out(operations, in_int8, everything)
    conversions = [op for op in in_int8 if _converts(op)]
    call = max(_LEAST_NS, min((op.ns for op in conversions), default=0))
    quantize, dequantize = (
        _rate((op for op in conversions if _converts(op) == kind), call) for kind in (QUANTIZE, DEQUANTIZE)
    )
    rates = Rates(
        call=call,
        quantize=quantize or dequantize or 0.0,
        dequantize=dequantize or quantize or 0.0,
        # A delegate has one layout for both precisions; what it changes is at its ends.
        layout=_rate((op for op in (*in_float, *in_int8) if _changes_layout(op) and "(" not in op.kernel), 0) or 0.0,
    )
    return Costs(float_ns=of_float.taken, int8_ns=of_int8.taken, rates=rates)


def corrected(costs: Costs, operations: Operations, ops: Sequence[OpTime], int8: frozenset[str], base_ns: int) -> Costs:
    """With what the profile of an artifact says that has those operations in ``int8``, and all others in float.

    ``base_ns`` is what changes of layout take where nothing is mixed.
    """
    seen = sorted_out(operations, ops, int8)
    predicted = conversions_ns(costs, operations, int8) / costs.correction
    measured = max(0, seen.conversions_ns + seen.layout_ns - base_ns)
    correction = costs.correction
    if predicted:
        correction = min(_MOST_CORRECTION, max(_LEAST_CORRECTION, measured / predicted))
    return replace(
        costs,
        float_ns={**costs.float_ns, **{name: ns for name, ns in seen.taken.items() if name not in int8}},
        int8_ns={**costs.int8_ns, **{name: ns for name, ns in seen.taken.items() if name in int8}},
        correction=correction,
    )


def conversions_ns(costs: Costs, operations: Operations, int8: frozenset[str]) -> int:
    """What the conversions of a labelling are expected to take."""
    total = 0
    for edge in costs.edges(operations):
        if edge.giver in int8:
            total += edge.dequantize_ns if any(reader not in int8 for reader in edge.readers) else 0
        elif any(reader in int8 for reader in edge.readers):
            total += edge.quantize_ns
    return total


@dataclass(kw_only=True)
class SortedOut:
    """The times of a profile: of each operation, of conversions between float and int8, of changes of layout."""

    taken: dict[str, int] = field(default_factory=dict)
    conversions_ns: int = 0
    layout_ns: int = 0


def sorted_out(operations: Operations, ops: Iterable[OpTime], int8: frozenset[str]) -> SortedOut:
    """Whose time each row of a profile is; what belongs to no operation that could be int8 is left out.

    A conversion that an int8 operation itself needs, as it has no integer
    kernel, is part of it: ONNX Runtime shows that one as the operator's own.
    """
    found = SortedOut()
    by_operation: dict[str, int] = defaultdict(int)
    products: list[tuple[str, int]] = []
    for op in ops:
        name = operations.part_of.get(op.node)
        if _converts(op) is not None:
            own = name in int8 and not op.kernel.startswith("Convert")
            if own and name is not None:
                by_operation[name] += op.ns
            else:
                found.conversions_ns += op.ns
        elif _changes_layout(op):
            found.layout_ns += op.ns
        elif name is not None:
            if op.kernel in _PRODUCTS:
                products.append((name, op.ns))
            else:
                by_operation[name] += op.ns
    kinds = {one.node.name: one.kind for one in operations.plan}
    for name, ns in products:
        # A product that was fused with what follows it goes by the name of that.
        idle = (layer for layer in operations.layers_before[name] if layer not in by_operation)
        layer = name if kinds[name] == "layer" else next(idle, name)
        by_operation[layer] += ns
    found.taken = dict(by_operation)
    return found


def _converts(op: OpTime) -> str | None:
    """Which way a row converts, that of the file or what ONNX Runtime put in of its own; None for any other row."""
    return next((kind for kind in (QUANTIZE, DEQUANTIZE) if kind in (op.op, op.kernel)), None)


def _changes_layout(op: OpTime) -> bool:
    return not op.node and op.kernel.partition(" ")[0] in _LAYOUT


def _rate(ops: Iterable[OpTime], call: float) -> float | None:
    """Nanoseconds an element beside those of a ``call``, from the rows of large tensors; None if there is none."""
    large = [op for op in ops if op.elements >= _LARGE]
    if not large:
        return None
    return sum(max(0.0, op.ns - call) for op in large) / sum(op.elements for op in large)
