"""What a written .pte says of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.lower.executorch import requirements
from edgeq.quiet import quietly
from edgeq.records import Requires

with quietly():
    from executorch.exir._serialize._program import deserialize_pte_binary
    from executorch.runtime import Runtime

if TYPE_CHECKING:
    from edgeq.lower.delegates.backend import Backend

IDENTIFIER = b"ET12"
"""What stands behind the first four bytes of a .pte that this ExecuTorch writes and reads."""

CHECKED = (
    "the file and what it hands the delegate were read back by their schemas, and hold every tensor that they name",
    "ExecuTorch has a kernel for every operator that no delegate takes",
)


@dataclass(frozen=True, kw_only=True)
class FoundInFile:
    """The kernels that a delegate is handed, by their number, and what the file needs on a device."""

    kernels: Counter[str]
    requires: Requires


def read_back(data: bytes, backend: Backend) -> FoundInFile:
    """Read the .pte; ValueError if it, or what ``backend`` is handed in it, is not by its schema."""
    if data[4:8] != IDENTIFIER:
        raise ValueError(f"its identifier is {data[4:8]!r} and not {IDENTIFIER!r}")
    with quietly():
        read = deserialize_pte_binary(data)
    (plan,) = read.program.execution_plan
    stored = read.named_data
    named = {key: len(stored.buffers[entry.buffer_index]) for key, entry in stored.pte_data.items()} if stored else {}
    kernels: Counter[str] = Counter()
    for given in plan.delegates:
        if given.id == backend.BACKEND:
            kernels += backend.kernels(bytes(read.program.backend_delegate_data[given.processed.index].data), named)
    requires = requirements(read.program)
    known = Runtime.get().operator_registry.operator_names
    if missing := [name for name in requires.ops if name not in known]:
        raise ValueError(f"ExecuTorch has no kernel for {', '.join(missing)}, which no delegate takes")
    return FoundInFile(kernels=kernels, requires=requires)
