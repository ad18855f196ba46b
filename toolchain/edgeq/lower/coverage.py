"""What an artifact computes in int8, and what its accelerated kernels do not take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.records import FileOperator, NodeFacts, Nodes, NpuEstimate, Requires, TensorSpec, Undelegated

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Facts about an artifact that was just written.

    ``macs`` counts multiply-accumulates of one inference on the float
    graph. ``int8_mac_share`` is the part of the file's own (which a backend
    may have made fewer or more) that is computed on int8 operands;
    ``delegated_mac_share`` is the part that runs in the runtime's
    accelerated kernels, float ones included. Each format's module says how
    it knows. Both are 1 for a model without any MAC. ``undelegated`` lists
    what runs elsewhere or, in a quantized artifact, in float; ``nodes`` has
    all. ``operators`` are those of the file, in its order; there are none
    where nothing could profile them. ``estimate`` is there for an NPU.
    """

    macs: int
    int8_mac_share: float
    delegated_mac_share: float
    partitions: int
    undelegated: tuple[Undelegated, ...]
    requires: Requires
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    output_scales: tuple[float | None, ...]
    nodes: Nodes
    operators: tuple[FileOperator, ...]
    estimate: NpuEstimate | None = None


def share(part: int, whole: int) -> float:
    """``part`` of ``whole``; a model without MACs has all of none."""
    return part / whole if whole else 1.0


def as_undelegated(node: NodeFacts) -> Undelegated:
    """The row of a manifest for a node that has a reason."""
    return Undelegated(
        node=node.node, op=node.op, reason=f"{node.code}: {node.reason}", mac_share=node.mac_share, source=node.source
    )


def grouped(nodes: Iterable[Undelegated]) -> tuple[Undelegated, ...]:
    """One row for nodes of the same operator, reason and source line, as an unrolled loop makes them; largest first."""
    groups: dict[tuple[str, str, str], list[Undelegated]] = {}
    for node in nodes:
        groups.setdefault((node.op, node.reason, node.source), []).append(node)
    rows = [
        Undelegated(
            node=members[0].node if len(members) == 1 else f"{members[0].node} and {len(members) - 1} more",
            op=op,
            reason=reason,
            mac_share=sum(member.mac_share for member in members),
            source=source,
        )
        for (op, reason, source), members in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.mac_share))
