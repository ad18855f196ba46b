"""ExecuTorch's exporter without the work that changes nothing.

Lowering runs some thirty passes, and most of them trace the whole graph
anew at their end whether they changed it or not (``retracing``). Four more
costs are as large: each trace copies the history of every node, a program is
decomposed three times and checked ten times, and two passes export patterns
from PyTorch to look for in graphs that cannot hold them.

:func:`shortcuts` leaves all of that out; the bytes of a .pte are the same
(``tests/integration/test_lower_shortcuts.py``). What it relies on are facts
of one release, so it does nothing in any other.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch.export import ExportedProgram
from torch.fx.passes.infra.pass_base import PassResult
from torch.fx.traceback import NodeSource

from edgeq.lower.retracing import Remembered, Retracing, has_branches
from edgeq.quiet import quietly

with quietly():
    from executorch.backends.xnnpack._passes.convert_to_sdpa import ConvertToSDPAPass
    from executorch.backends.xnnpack._passes.convert_to_upsample_bilinear2d import ConvertToUpsampleBilinear2d
    from executorch.exir.dialects._ops import ops as exir_ops
    from executorch.exir.graph_module import contains_any_call_fn_target_op
    from executorch.exir.pass_base import _ExportPassBase
    from executorch.exir.verification import verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch.fx import GraphModule

_KNOWN = {"torch": "2.13.0", "executorch": "1.5.1"}
"""The releases that were compared with and without the shortcuts."""


def are_known_to_hold() -> bool:
    """Whether the libraries are those that the shortcuts were made for."""
    return all(importlib.metadata.version(name).partition("+")[0] == known for name, known in _KNOWN.items())


@contextlib.contextmanager
def shortcuts() -> Iterator[None]:
    """Lower faster inside the block. It replaces methods of the libraries: one thread at a time."""
    with contextlib.ExitStack() as stack:
        if are_known_to_hold():
            decomposing = _Decomposing(ExportedProgram.run_decompositions)
            retracing = Retracing(_ExportPassBase.call)
            checking = _Checking(verifier._check_tensor_args_matching_op_allowed_dtype)  # noqa: SLF001  # no other name
            for owner, name, method in (
                (NodeSource, "__deepcopy__", lambda source, _: source),  # a history never changes once it is made
                (ExportedProgram, "run_decompositions", _as_method(decomposing.run)),
                (_ExportPassBase, "call", _as_method(retracing.call)),
                (verifier, "_check_tensor_args_matching_op_allowed_dtype", checking.check),
                (ConvertToSDPAPass, "call", _where(exir_ops.edge.aten.bmm.default, ConvertToSDPAPass.call)),
                (
                    ConvertToUpsampleBilinear2d,
                    "call",
                    _where(exir_ops.edge.aten.upsample_bilinear2d.vec, ConvertToUpsampleBilinear2d.call),
                ),
            ):
                stack.enter_context(_replaced(owner, name, method))
        yield


class _Decomposing:
    """Stands in for ``ExportedProgram.run_decompositions``: traces only programs in which it finds something to do."""

    def __init__(self, decompose: Callable[..., ExportedProgram]) -> None:
        self._decompose = decompose
        self._functional: WeakSet[ExportedProgram] = WeakSet()

    def run(self, program: ExportedProgram, table: Mapping[Any, Any] | None = None, **options: Any) -> ExportedProgram:  # noqa: ANN401
        """``program`` with the operators of ``table`` decomposed, all operators functional.

        What edgeq lowers is functional from the start, so that decomposing
        nothing is left to the decomposition that follows.
        """
        if table is not None and not options:
            if not table and _is_functional(program):
                return program
            if program in self._functional and not contains_any_call_fn_target_op(program.graph_module, table):
                return program
        result = self._decompose(program, table, **options)
        self._functional.add(result)
        return result


def _is_functional(program: ExportedProgram) -> bool:
    return not has_branches(program.graph_module) and not any(
        isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable  # noqa: SLF001
        for node in program.graph.nodes
    )


class _Checking:
    """Stands in for the verifier's check of dtypes, which runs a graph: once will do until the graph is changed."""

    def __init__(self, check: Callable[[GraphModule], None]) -> None:
        self._check = check
        self._passed = Remembered()

    def check(self, graph_module: GraphModule) -> None:
        """Raise what the verifier raises."""
        if not self._passed.holds(graph_module):
            self._check(graph_module)
            self._passed.remember(graph_module)


def _where(
    operator: object, call: Callable[[Any, GraphModule], PassResult]
) -> Callable[[Any, GraphModule], PassResult]:
    """The ``call`` of a pass for graphs that hold the ``operator`` without which it finds nothing."""

    @functools.wraps(call)
    def look(owner: Any, graph_module: GraphModule) -> PassResult:  # noqa: ANN401  # ExecuTorch is not typed
        if any(node.target is operator for node in graph_module.graph.nodes):
            return call(owner, graph_module)
        return PassResult(graph_module, modified=False)

    return look


def _as_method(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as a plain one, which a class hands its object to; a bound method would not get it."""

    def method(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # methods of several classes
        return function(owner, *args, **kwargs)

    return method


@contextlib.contextmanager
def _replaced(owner: object, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Let a class or module have another function of that name inside the block."""
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, method)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
