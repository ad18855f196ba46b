"""Whether a pass of ExecuTorch would trace a graph into an equal one.

An ``ExportPass`` ends with a trace: it runs the graph on fake tensors, asks
its hooks at each node what to write in its place, and gives a new graph with
the shape and dtype of every value. Of a graph that was traced before and was
not changed since, by a pass whose hooks leave every node alone, it gives an
equal graph under equal names. Asking the hooks does not need the trace.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node
from torch.fx.passes.infra.pass_base import PassResult

from edgeq.quiet import quietly

with quietly():
    from executorch.exir.dialects.edge._ops import EdgeOpOverload
    from executorch.exir.pass_base import ExportPass, NodeMetadata, ProxyValue

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import GraphModule

_HOOKS = tuple(name for name in dir(ExportPass) if not name.startswith("__") and name not in ("call", "_abc_impl"))

_PURE = frozenset(
    {
        "NormalizeTransposePass",
        "ReplaceBrokenOpsWithFunctionalOpsPass",
        "ScalarToTensorPass",
        "SymToTensorPass",
        "RemoveMixedTypeOperators",
        "MemoryFormatOpsPass",
        "DimOrderOpsRevertPass",
        "ConstPropPass",
    }
)
"""Passes whose ``call_operator`` depends on its arguments alone and keeps nothing of them that matters."""


class Remembered:
    """The last graph that something was done with, and how it was then."""

    def __init__(self) -> None:
        self._graph_module: GraphModule | None = None
        self._facts: list[tuple[object, ...]] = []

    def remember(self, graph_module: GraphModule) -> None:
        """Keep this graph in place of the one before."""
        self._graph_module, self._facts = graph_module, _facts(graph_module)

    def holds(self, graph_module: GraphModule) -> bool:
        """Whether this is that graph, and nothing in it was changed since."""
        if graph_module is not self._graph_module or has_branches(graph_module):
            return False
        facts = _facts(graph_module)
        return len(facts) == len(self._facts) and all(
            all(map(operator.is_, now, then)) for now, then in zip(facts, self._facts, strict=True)
        )


class Retracing:
    """Stands in for ``ExportPass.call``: traces where that changes a graph, and hands back the graph elsewhere."""

    def __init__(self, trace: Callable[[Any, GraphModule], PassResult]) -> None:
        self._trace = trace
        self._traced = Remembered()

    def call(self, owner: Any, graph_module: GraphModule) -> PassResult:  # noqa: ANN401  # ExecuTorch is not typed
        """What ``owner``, a pass, makes of the graph."""
        if self._traced.holds(graph_module) and _leaves_alone(owner, graph_module):
            return PassResult(graph_module, modified=True)
        result = self._trace(owner, graph_module)
        self._traced.remember(result.graph_module)
        return result


def has_branches(graph_module: GraphModule) -> bool:
    """Whether the graph has control flow: graphs inside the graph, which its own nodes say nothing of."""
    return any(isinstance(child, torch.fx.GraphModule) for child in graph_module.children())


def _facts(graph_module: GraphModule) -> list[tuple[object, ...]]:
    """The nodes and all that a trace depends on; whatever changes one of them puts another object in its place."""
    return [
        (node, node.op, node.target, node.args, node.kwargs, node.meta.get("val")) for node in graph_module.graph.nodes
    ]


def _leaves_alone(owner: Any, graph_module: GraphModule) -> bool:  # noqa: ANN401  # ExecuTorch is not typed
    """Whether the hooks of a pass would have every node of the graph written as it is."""
    cls = type(owner)
    own = {name for name in _HOOKS if getattr(cls, name) is not getattr(ExportPass, name)}
    if not own:
        return True
    nodes = graph_module.graph.nodes
    if own != {"call_operator"} or cls.__name__ not in _PURE or any(node.op == "get_attr" for node in nodes):
        return False
    try:
        return all(_leaves_node_alone(owner, node) for node in nodes if _is_operator(node))
    finally:
        vars(owner).pop("_fx", None)


def _is_operator(node: Node) -> bool:
    return node.op == "call_function" and isinstance(node.target, (torch._ops.OpOverload, EdgeOpOverload))  # noqa: SLF001


def _leaves_node_alone(owner: Any, node: Node) -> bool:  # noqa: ANN401  # ExecuTorch is not typed
    """Ask the hook of a pass for one node, with a stand-in for what would write its answer down."""
    asked: list[bool] = []
    written = ProxyValue(node.meta["val"], node)

    def write(kind: str, target: object, args: object, kwargs: object, meta: NodeMetadata) -> ProxyValue:
        same = kind == node.op and target is node.target and _same(args, node.args) and _same(kwargs, node.kwargs)
        asked.append(same and _same(meta.data, node.meta))
        return written

    owner._fx = write  # noqa: SLF001  # an attribute of the object comes before the method of its class
    args, kwargs = torch.fx.node.map_aggregate((node.args, node.kwargs), _proxy)
    answer = owner.call_operator(node.target, args, dict(kwargs), NodeMetadata(node.meta))
    return asked == [True] and answer is written


def _proxy(argument: Any) -> Any:  # noqa: ANN401  # any argument of an operator
    return ProxyValue(argument.meta["val"], argument) if isinstance(argument, Node) else argument


def _same(answer: Any, asked: Any) -> bool:  # noqa: ANN401  # arguments of any operator
    """Whether two arguments are the same objects; lists and tuples may be others that hold the same."""
    match answer:
        case ProxyValue():
            return answer.node is asked
        case dict():
            return answer.keys() == asked.keys() and all(_same(answer[key], asked[key]) for key in answer)
        case list() | tuple():
            return isinstance(asked, (list, tuple)) and len(answer) == len(asked) and all(map(_same, answer, asked))
        case _:
            return answer is asked
