"""From the program that a build kept of a recipe to a .pte for the GPU or the neural processor of a phone.

A delegate takes what it has kernels for, XNNPACK what it left, and
ExecuTorch's own kernels the rest. None of these delegates runs on the build
machine: what can be known of a file without is read back from the file.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch.fx import Node

from edgeq.errors import DelegateError
from edgeq.files import write_bytes
from edgeq.lower.coverage import grouped, share
from edgeq.lower.delegates import coreml, vulkan
from edgeq.lower.executorch_nodes import is_operator, only_converts
from edgeq.lower.executorch_watch import Watched, plain_name
from edgeq.lower.reasons import Why
from edgeq.lower.xnnpack import to_edge_transform_and_lower
from edgeq.quantize.macs import macs, operator_name, total_macs
from edgeq.quantize.source import source_of
from edgeq.quiet import quietly
from edgeq.records import Delegated, Requires, Undelegated

with quietly():
    from executorch.exir._serialize._program import deserialize_pte_binary
    from executorch.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Any

    from torch.export import ExportedProgram

    from edgeq.lower.xnnpack import LoweredBackendModule
    from edgeq.records import DelegateName

_XNNPACK = "XnnpackBackend"
_IDENTIFIER = b"ET12"
"""What stands in a .pte that this ExecuTorch writes and reads."""


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """Why nodes were left out, by their names: by the delegate, then by XNNPACK."""

    delegate: dict[str, Why]
    xnnpack: dict[str, Why]


class Backend(Protocol):
    """What a delegate has to say; a module with these is one."""

    BACKEND: str
    """What its runtime is called in a .pte."""
    NAME: str
    """What people call it."""
    SYSTEM: str
    """The oldest system that runs its files."""
    UNCHECKED: tuple[str, ...]
    """What nobody on this machine can know of a file."""

    def lowering(self, program: ExportedProgram) -> AbstractContextManager[None]:
        """What stands around a lowering; it replaces functions of libraries: one thread at a time."""

    def partitioner(self, refusals: dict[str, Why], *, half: bool) -> Any:  # noqa: ANN401  # ExecuTorch is not typed
        """Hands over what there are kernels for, in float16 if ``half``; says of each other node why not."""

    def kernels(self, data: bytes, named: Mapping[str, int]) -> Counter[str]:
        """The kernels in what the delegate was given, read back; ValueError if it is damaged.

        ``named`` are the sizes in bytes of the tensors beside it.
        """


_BACKENDS: Mapping[DelegateName, tuple[Backend, bool]] = {
    "vulkan": (vulkan, False),
    "vulkan-fp16": (vulkan, True),
    "coreml": (coreml, True),
    "coreml-fp32": (coreml, False),
}


def lower_for(
    delegate: DelegateName, program: ExportedProgram, path: Path, *, total: int
) -> tuple[Delegated, Requires]:
    """Write ``program``, which is consumed, to ``path`` as a .pte for a delegate.

    ``total`` are the multiply-accumulates of the artifact, of which a
    re-loaded program must have lost none. DelegateError if ExecuTorch
    refuses the program, or the file is not what it should be.
    """
    backend, half = _BACKENDS[delegate]
    watched = Watched()
    refusals = Refusals(delegate={}, xnnpack=watched.refusals)
    try:
        with backend.lowering(program):
            partitioners = [backend.partitioner(refusals.delegate, half=half), watched.partitioner()]
            edge = to_edge_transform_and_lower(program, partitioner=partitioners)
            lowered = edge.exported_program()
            parts = list(_parts(lowered))
            outside = [node for node in lowered.graph.nodes if is_operator(node)]
            data = edge.to_executorch().buffer
    except Exception as error:  # the passes of ExecuTorch and of coremltools raise whatever they raise
        raise DelegateError(delegate, _first_line(error), detail=str(error)) from error
    if not any(part.backend_id == backend.BACKEND for part in parts):
        raise DelegateError(delegate, "it takes no operator of this program", detail=_all_of(refusals.delegate))
    write_bytes(path, data)
    kernels, requires = _read_back(delegate, backend, data)
    taken = _macs(parts, backend.BACKEND)
    on_cpu = _macs(parts, _XNNPACK)
    found = taken + on_cpu + total_macs(outside)
    return Delegated(
        delegate=delegate,
        backend=backend.BACKEND,
        float_dtype="float16" if half else "float32",
        system=backend.SYSTEM,
        mac_share=share(taken, found),
        cpu_mac_share=share(on_cpu, found),
        partitions=sum(part.backend_id == backend.BACKEND for part in parts),
        cpu_partitions=sum(part.backend_id == _XNNPACK for part in parts),
        kernels=dict(kernels.most_common()),
        undelegated=grouped(_row(one, found) for one in _left(parts, outside, refusals, backend.NAME)),
        checked=tuple(_checked(backend, found, total)),
        unchecked=backend.UNCHECKED,
    ), requires


@dataclass(frozen=True, kw_only=True)
class _Left:
    """A node that a delegate did not take."""

    node: Node
    reason: str


def _row(left: _Left, total: int) -> Undelegated:
    return Undelegated(
        node=left.node.name,
        op=getattr(left.node.target, "__name__", str(left.node.target)),
        reason=left.reason,
        mac_share=share(macs(left.node), total) if total else 0.0,
        source=source_of(left.node),
    )


def _parts(lowered: ExportedProgram) -> Iterator[LoweredBackendModule]:
    for node in lowered.graph.nodes:
        if node.op == "call_function" and operator_name(node) == "executorch_call_delegate":
            yield getattr(lowered.graph_module, str(node.args[0].target))


def _macs(parts: list[LoweredBackendModule], backend: str) -> int:
    return sum(total_macs(part.original_module.graph.nodes) for part in parts if part.backend_id == backend)


def _left(parts: list[LoweredBackendModule], outside: list[Node], refusals: Refusals, name: str) -> Iterator[_Left]:
    """What the delegate ``name`` did not take, with its reason and what computes it instead."""
    on_cpu = [node for part in parts if part.backend_id == _XNNPACK for node in part.original_module.graph.nodes]
    for nodes, runs in ((on_cpu, "XNNPACK"), (outside, "ExecuTorch's own kernel")):
        for node in nodes:
            if not is_operator(node) or only_converts(node):
                continue
            why = refusals.delegate.get(node.name) or Why(
                "constraint", f"{name} takes this {plain_name(operator_name(node))} in no partition with its neighbours"
            )
            also = refusals.xnnpack.get(node.name) if nodes is outside else None
            because = f" ({also.sentence})" if also else ""
            yield _Left(node=node, reason=f"{why}; {runs} computes it on the CPU{because}")


def _read_back(delegate: DelegateName, backend: Backend, data: bytes) -> tuple[Counter[str], Requires]:
    """The kernels that the written file hands over and what it needs; DelegateError if it is not what it should be."""
    if data[4:8] != _IDENTIFIER:
        raise DelegateError(delegate, f"its file has the identifier {data[4:8]!r} and not {_IDENTIFIER!r}")
    with quietly():
        read = deserialize_pte_binary(data)
    (plan,) = read.program.execution_plan
    stored = read.named_data
    named = {key: len(stored.buffers[entry.buffer_index]) for key, entry in stored.pte_data.items()} if stored else {}
    kernels: Counter[str] = Counter()
    for given in plan.delegates:
        if given.id == backend.BACKEND:
            payload = read.program.backend_delegate_data[given.processed.index].data
            try:
                kernels += backend.kernels(bytes(payload), named)
            except ValueError as error:
                raise DelegateError(delegate, f"what it was handed is damaged: {error}") from error
    operators = tuple(sorted(f"{op.name}.{op.overload}" if op.overload else op.name for op in plan.operators))
    missing = [name for name in operators if name not in Runtime.get().operator_registry.operator_names]
    if missing:
        raise DelegateError(delegate, f"ExecuTorch has no kernel for {', '.join(missing)}, which it leaves to others")
    return kernels, Requires(
        runtime="executorch",
        version=importlib.metadata.version("executorch"),
        ops=operators,
        backends=tuple(sorted({given.id for given in plan.delegates})),
    )


def _checked(backend: Backend, found: int, total: int) -> Iterator[str]:
    yield (
        f"the file is read back as the schema of ExecuTorch {importlib.metadata.version('executorch')} says, and hands "
        f"{backend.BACKEND} what its own schema allows"
    )
    yield "ExecuTorch has a kernel for every operator that no delegate takes"
    if found == total:
        yield f"all {total:,} multiply-accumulates of the artifact are in the file's program"
    else:
        yield f"the file's program has {found:,} multiply-accumulates, the artifact's {total:,}"


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _all_of(refusals: Mapping[str, Why]) -> str:
    return "\n".join(dict.fromkeys(map(str, refusals.values())))
