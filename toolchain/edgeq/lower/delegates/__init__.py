"""From the program that a build kept of a recipe to a .pte for the GPU or the neural processor of a phone.

A delegate takes what it has kernels for, XNNPACK what it left, and
ExecuTorch's own kernels the rest. None of these delegates runs on the build
machine: what can be known of a file without is found in the graphs that the
delegate was handed (``left``), read back from the file (``file``), and
computed with the exporter's own descriptions of kernels (``reference``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import DelegateError, EdgeqError
from edgeq.files import write_bytes
from edgeq.host import Arrays
from edgeq.lower.coverage import grouped, share
from edgeq.lower.delegates import coreml, file, reference, vulkan
from edgeq.lower.delegates.left import Refusals, left_out
from edgeq.lower.executorch_nodes import delegates, is_operator
from edgeq.lower.executorch_watch import Watched
from edgeq.lower.xnnpack import to_edge_transform_and_lower
from edgeq.quantize.macs import total_macs
from edgeq.quiet import quietly
from edgeq.records import Delegated, Requires, Undelegated
from edgeq.stats import sqnr_db

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.export import ExportedProgram

    from edgeq.lower.delegates.backend import Backend
    from edgeq.lower.delegates.reference import Handed
    from edgeq.lower.xnnpack import EdgeProgramManager
    from edgeq.records import DelegateName

XNNPACK = "XnnpackBackend"

_BACKENDS: Mapping[DelegateName, tuple[Backend, bool]] = {
    "vulkan": (vulkan, False),
    "vulkan-fp16": (vulkan, True),
    "coreml": (coreml, True),
    "coreml-fp32": (coreml, False),
}
"""Each delegate by its name, and whether it is to compute in float16."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is known of the artifact: its multiply-accumulates, and outputs (all, or the first ones) for inputs.

    What gives outputs less than ``least_sqnr_db`` from those computes something else.
    """

    macs: int
    cases: tuple[tuple[Arrays, Arrays], ...]
    least_sqnr_db: float


@dataclass(frozen=True, kw_only=True)
class _Described:
    """What the delegate's kernels as ExecuTorch describes them give."""

    sqnr_db: float | None = None
    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def lower_for(
    delegate: DelegateName, program: ExportedProgram, path: Path, expected: Expected
) -> tuple[Delegated, Requires]:
    """Write ``program``, which is consumed, to ``path`` as a .pte for a delegate.

    DelegateError if ExecuTorch refuses the program, or the file is not what
    it should be; MissingCoreMlError without what writes for Core ML.
    """
    backend, half = _BACKENDS[delegate]
    watched = Watched()
    refusals = Refusals(delegate={}, xnnpack=watched.refusals)
    try:
        with quietly(errors=True), backend.lowering(program) as handed:
            partitioners = [backend.partitioner(refusals.delegate, half=half), watched.partitioner()]
            edge = to_edge_transform_and_lower(program, partitioner=partitioners)
            facts = _facts(backend, edge, handed, refusals, expected)
            data = edge.to_executorch().buffer
    except EdgeqError:
        raise
    except Exception as error:  # the passes of ExecuTorch and of coremltools raise whatever they raise
        raise DelegateError(delegate, _cause(error), detail=str(error)) from error
    if not facts.partitions:
        refused = dict.fromkeys(map(str, refusals.delegate.values()))
        raise DelegateError(delegate, "it takes no operator of this program", detail="\n".join(refused))
    write_bytes(path, data)
    try:
        found = file.read_back(data, backend)
    except ValueError as error:
        raise DelegateError(delegate, f"the file that it wrote is not what it should be: {error}") from error
    return Delegated(
        delegate=delegate,
        backend=backend.BACKEND,
        float_dtype="float16" if half else "float32",
        system=backend.SYSTEM,
        mac_share=share(facts.macs, facts.total_macs),
        cpu_mac_share=share(facts.cpu_macs, facts.total_macs) if facts.cpu_partitions else 0.0,
        partitions=facts.partitions,
        cpu_partitions=facts.cpu_partitions,
        kernels=dict(found.kernels.most_common()),
        undelegated=facts.undelegated,
        described_db=facts.described.sqnr_db,
        checked=(*file.CHECKED, *_about_macs(facts.total_macs, expected.macs), *facts.described.checked),
        unchecked=(*facts.described.unchecked, *backend.UNCHECKED),
    ), found.requires


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What is known of a lowered program before it is written, when its nodes still have their names."""

    partitions: int
    cpu_partitions: int
    macs: int
    cpu_macs: int
    total_macs: int
    undelegated: tuple[Undelegated, ...]
    described: _Described


def _facts(
    backend: Backend, edge: EdgeProgramManager, handed: Handed, refusals: Refusals, expected: Expected
) -> _Facts:
    lowered = edge.exported_program()
    parts = list(delegates(lowered))
    outside = [node for node in lowered.graph.nodes if is_operator(node)]
    mine = [part for part in parts if part.backend_id == backend.BACKEND]
    on_cpu = [part for part in parts if part.backend_id == XNNPACK]
    macs, cpu_macs = (sum(total_macs(part.original_module.graph.nodes) for part in some) for some in (mine, on_cpu))
    total = macs + cpu_macs + total_macs(outside)
    return _Facts(
        partitions=len(mine),
        cpu_partitions=len(on_cpu),
        macs=macs,
        cpu_macs=cpu_macs,
        total_macs=total,
        undelegated=grouped(left_out(on_cpu, outside, refusals, backend.NAME, total=total)),
        described=_described(lowered, handed, expected),
    )


def _described(lowered: ExportedProgram, handed: Handed, expected: Expected) -> _Described:
    """Run the program with the delegate's kernels as ExecuTorch describes them, where it does."""
    if not handed or not expected.cases:
        return _Described()
    try:
        given = [reference.outputs(lowered, handed, inputs) for inputs, _ in expected.cases]
    except Exception as error:  # noqa: BLE001  # PyTorch raises whatever it raises
        return _Described(unchecked=(f"what its kernels should compute: {_cause(error)}",))
    nearest = min(
        sqnr_db(output, made)
        for (_, outputs), several in zip(expected.cases, given, strict=True)
        for output, made in zip(outputs, several, strict=False)
    )
    told = "the bits of" if nearest == math.inf else f"what is {nearest:.1f} dB from"
    of = f"ExecuTorch's own descriptions of its kernels, run in PyTorch in float32 on {len(given)} test vectors,"
    said = f"{of} give {told} the outputs of the artifact for the CPU"
    if nearest < expected.least_sqnr_db:
        doubt = f"{said}: the description is wrong or the file is; only its test on a device can tell"
        return _Described(sqnr_db=nearest if math.isfinite(nearest) else None, unchecked=(doubt,))
    return _Described(sqnr_db=None if nearest == math.inf else nearest, checked=(said,))


def _about_macs(found: int, expected: int) -> tuple[str]:
    if found == expected:
        return (f"all {found:,} multiply-accumulates of the artifact are in the file's program",)
    return (f"the file's program has {found:,} multiply-accumulates, the artifact's {expected:,}",)


def _cause(error: BaseException) -> str:
    """What began it, in a line: passes wrap what they come upon."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    said = next((line for line in str(error).strip().splitlines() if line.strip()), "")
    return said if len(said.split()) > 1 else f"{type(error).__name__}: {said}"  # a KeyError says its key alone
