"""The graph that quantization-aware training runs: the deployed one, with rounding in it and batch norms beside it.

The module is captured for the batch size it is called with, then simplified
and planned by the very code that makes the artifact. So each tensor that
will be int8 is rounded here, by the same rules, and no other. Parameters
and statistics are the module's own tensors.

``prepare_qat_pt2e`` is not used: docs/quantization.md says why.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.fx import Graph, GraphModule, Node

from edgeq.quantize.attributes import constant, is_constant, new_constant
from edgeq.quantize.capture import capture
from edgeq.quantize.fake import BatchNorm, FakeActivation, FakeWeight, Phase
from edgeq.quantize.plan import LAYERS, plan_int8, readers
from edgeq.quantize.rewrite import BEFORE_CONSTANTS, simplify
from edgeq.quantize.rewrite.activations import CLAMPS
from edgeq.quantize.scheme import output_axis
from edgeq.quantize.selection import selected
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from edgeq.quantize.plan import Plan
    from edgeq.quantize.scheme import Scheme
    from edgeq.recipe import Recipe

_ATEN = torch.ops.aten
_BATCH_NORM = _ATEN._native_batch_norm_legit_no_training.default  # noqa: SLF001  # the operator's public name
_MATRIX_POSITION = {_ATEN.mm.default: 1, _ATEN.matmul.default: 1, _ATEN.addmm.default: 2}

_NORM, _MATRIX = "edgeq_batch_norm", "edgeq_matrix"
"""Keys of a node's meta, which the rewrites hand on to what they put in the node's place."""


class Rounding:
    """What the graphs of all batch sizes share: the phase, the range of every scale, the form of weights' scales.

    ``activations`` are by the name of the node that leads a scale; ``whole``
    names the layers whose weight has a single scale.
    """

    def __init__(self, scheme: Scheme, *, symmetric: bool) -> None:
        self.phase = Phase()
        self.activations = {
            leader.name: FakeActivation(self.phase, numbers, symmetric=symmetric)
            for leader, numbers in scheme.activations.items()
        }
        self.whole = frozenset(layer.name for layer, scale in scheme.weights.items() if scale.numel() == 1)


def training_graph(
    name: str, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], recipe: Recipe, rounding: Rounding
) -> GraphModule | None:
    """The graph for inputs of these shapes, or None if its int8 tensors are not those of ``rounding``.

    ``module`` is in eval mode: dropout and whatever else acts in training
    alone are no part of the graph. ExportError if it cannot be exported.
    """
    graph = capture(name, module, inputs)
    with quietly():  # fx warns of constants that are computed
        return _with_rounding(graph, recipe, rounding)


def _with_rounding(graph: GraphModule, recipe: Recipe, rounding: Rounding) -> GraphModule | None:
    for rewrite in BEFORE_CONSTANTS:
        rewrite(graph)
    _keep_computed(graph)
    norms = _mark(graph.graph)
    simplify(graph)
    plan = plan_int8(graph.graph, keep_float=selected(graph.graph, recipe))
    if {leader.name for leader in plan.leader.values()} != rounding.activations.keys():
        return None
    _round_activations(graph, plan, rounding)
    factors = _restore_batch_norms(graph, norms, rounding.phase)
    _restore_matrices(graph.graph)
    _round_weights(graph, plan, rounding, factors)
    _compute_anew(graph.graph)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    return graph


def round_for_good(graph: GraphModule) -> None:
    """Give each layer's weight the values that its integers stand for.

    Rounding them once more by the same rule changes nothing, so that the
    float model calibrates as the int8 one will compute. A weight that is
    computed, or that others read too, stays as it is.
    """
    reading: dict[object, list[Node]] = defaultdict(list)
    for node in graph.graph.nodes:
        for source in filter(is_constant, node.all_input_nodes):
            reading[source.target].append(node)
    for node in graph.graph.nodes:
        fake = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(fake, FakeWeight) and is_constant(node.args[0]) and reading[node.args[0].target] == [node]:
            weight, *others = (arg and constant(graph, arg) for arg in node.args)
            weight.copy_(fake(weight, *others))


class _Computed(torch.nn.Module):
    """A constant that is computed from parameters: a weight norm, a position table, a reshaped scale."""

    def __init__(self, computation: GraphModule) -> None:
        super().__init__()
        self.computation = computation

    def forward(self) -> torch.Tensor:
        """What the constant is now."""
        result: torch.Tensor = self.computation()
        return result.contiguous()

    @property
    def value(self) -> torch.Tensor:
        """The same, as the attribute that a constant is to the rewrites."""
        return self.forward()


def _keep_computed(graph: GraphModule) -> None:
    """Let a value that depends on parameters alone look like a constant: simplifying would make one of it for good."""
    computed: dict[Node, set[Node]] = {}
    for node in graph.graph.nodes:
        sources = node.all_input_nodes
        if node.op != "call_function" or not sources or _is_random(node):
            continue
        if all(is_constant(source) or source in computed for source in sources):
            computed[node] = {node, *sources}.union(*(computed.get(source, ()) for source in sources))
    for index, (node, needed) in enumerate(computed.items()):
        if isinstance(node.meta.get("val"), torch.Tensor) and any(user not in computed for user in node.users):
            graph.add_submodule(f"computed_{index}", _Computed(_computation(graph, node, needed)))
            with graph.graph.inserting_before(node):
                read = graph.graph.get_attr(f"computed_{index}.value")
            read.meta = {**node.meta, "val": node.meta["val"].contiguous()}
            node.replace_all_uses_with(read, lambda user: user not in computed)


def _is_random(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _computation(graph: GraphModule, result: Node, needed: set[Node]) -> GraphModule:
    alone = Graph()
    copies: dict[Node, Node] = {}
    for node in graph.graph.nodes:
        if node in needed:
            copies[node] = alone.node_copy(node, copies.__getitem__)
    alone.output(copies[result])
    return GraphModule(graph, alone)


@dataclass(frozen=True, kw_only=True)
class _Norm:
    """A batch norm before it is folded, and the layer it reads; constants by the target of their ``get_attr``."""

    source: Node
    weight: str
    bias: str
    constants: tuple[str, ...]
    eps: float


def _mark(graph: Graph) -> list[_Norm]:
    """Note in the graph what the rewrites are about to fold."""
    norms = []
    for node in graph.nodes:
        if node.target == _BATCH_NORM and all(arg is None or is_constant(arg) for arg in node.args[1:5]):
            source = node.args[0]
            weight, bias = (*source.args[1:3], None, None)[:2]
            norm = _Norm(
                source=source,
                weight=_target(weight),
                bias=_target(bias),
                constants=tuple(_target(arg) for arg in node.args[1:5]),
                eps=float(node.args[6]),
            )
            node.meta[_NORM] = norm
            norms.append(norm)
        elif node.target in _MATRIX_POSITION:
            node.meta[_MATRIX] = _target(node.args[_MATRIX_POSITION[node.target]])
    return norms


def _target(constant: object) -> str:
    return str(constant.target) if isinstance(constant, Node) and is_constant(constant) else ""


def _round_activations(graph: GraphModule, plan: Plan, rounding: Rounding) -> None:
    """Round each int8 tensor behind the operation that stores it, or in front of those that read it."""
    for name, fake in rounding.activations.items():
        graph.add_submodule(_fake(name), fake)
    storing = {operation.output: operation for operation in plan.operations}
    reading = readers(plan.operations)
    last_input = [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
    for tensor, leader in plan.leader.items():
        operation = storing.get(tensor)
        if operation is not None and operation.kind == "shared" and tensor.target not in CLAMPS:
            continue  # values of its rounded inputs
        users = list(tensor.users) if operation is not None else [found.reader for found in reading[tensor]]
        with graph.graph.inserting_after(last_input if tensor.op == "placeholder" else tensor):
            rounded = graph.graph.call_module(_fake(leader.name), (tensor,))
        for user in users:
            user.replace_input_with(tensor, rounded)


def _fake(leader: str) -> str:
    return f"fake_{leader}"


def _restore_batch_norms(graph: GraphModule, norms: list[_Norm], phase: Phase) -> dict[Node, tuple[_Norm, Node]]:
    """Put each batch norm back behind its layer; the norm and its node by the layer that it will be folded into."""
    alone = {id(node.meta[_NORM]): node for node in graph.graph.nodes if _NORM in node.meta}
    present = set(graph.graph.nodes)
    factors: dict[Node, tuple[_Norm, Node]] = {}
    for index, norm in enumerate(norms):
        place = alone.get(id(norm))
        if place is None and norm.source not in present:
            continue  # nobody read it
        graph.add_submodule(f"norm_{index}", BatchNorm(phase, eps=norm.eps))
        layer = norm.source if place is None else place
        with graph.graph.inserting_before(layer):
            constants = tuple(graph.graph.get_attr(name) if name else None for name in norm.constants)
        if layer.target == _ATEN.add.Tensor:  # where there is no plane: a product with the factor, and a sum
            source = layer.args[0].args[0]  # type: ignore[union-attr]  # both read nodes
        else:
            source = layer
            _unfold(graph, layer, norm, alone=place is not None)
        with graph.graph.inserting_after(layer):
            node = graph.graph.call_module(f"norm_{index}", (source, *constants))
        layer.replace_all_uses_with(node, lambda user, node=node: user is not node)  # type: ignore[misc]
        if layer.target in LAYERS:
            factors[layer] = (norm, node)
    return factors


def _unfold(graph: GraphModule, layer: Node, norm: _Norm, *, alone: bool) -> None:
    """Give a layer back the weight and bias it had; one that only stood for a batch norm has ones."""
    source, folded, _, *rest = layer.args
    with graph.graph.inserting_before(layer):
        if alone:
            weight = new_constant(graph, layer, torch.ones(folded.meta["val"].shape))  # type: ignore[union-attr]
            bias = None
        else:
            weight = graph.graph.get_attr(norm.weight)
            bias = graph.graph.get_attr(norm.bias) if norm.bias else None
    layer.args = (source, weight, bias, *rest)


def _restore_matrices(graph: Graph) -> None:
    """Let ``x @ weight`` read the transposed parameter, not a copy of it."""
    for node in graph.nodes:
        if node.target == _ATEN.linear.default and node.meta.get(_MATRIX):
            with graph.inserting_before(node):
                turned = graph.call_function(_ATEN.t.default, (graph.get_attr(node.meta[_MATRIX]),))
            node.args = (node.args[0], turned, *node.args[2:])


def _round_weights(graph: GraphModule, plan: Plan, rounding: Rounding, factors: dict[Node, tuple[_Norm, Node]]) -> None:
    for operation in plan.operations:
        if operation.kind != "layer":
            continue
        layer = operation.node
        arguments = [layer.args[1]]
        eps = 0.0
        if layer in factors:
            norm, node = factors[layer]
            arguments += [node.args[1], node.args[4]]  # gamma and the variance
            eps = norm.eps
        name = f"weight_{layer.name}"
        graph.add_submodule(name, FakeWeight(output_axis(layer), whole=layer.name in rounding.whole, eps=eps))
        with graph.graph.inserting_before(layer):
            rounded = graph.graph.call_module(name, tuple(arguments))
        layer.args = (layer.args[0], rounded, *layer.args[2:])


def _compute_anew(graph: Graph) -> None:
    """Call what computes a constant, now that nothing has to look like one any more."""
    for node in list(graph.nodes):
        name, _, attribute = str(node.target).partition(".")
        if node.op == "get_attr" and name.startswith("computed_") and attribute == "value":
            with graph.inserting_before(node):
                called = graph.call_module(name)
            node.replace_all_uses_with(called)
            graph.erase_node(node)
