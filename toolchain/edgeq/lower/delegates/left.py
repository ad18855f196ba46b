"""The nodes that a delegate did not take, why, and what computes them instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.lower.coverage import share
from edgeq.lower.executorch_nodes import is_operator, only_converts
from edgeq.lower.executorch_watch import plain_name
from edgeq.lower.reasons import Why
from edgeq.quantize.macs import macs, operator_name
from edgeq.quantize.source import source_of
from edgeq.records import Undelegated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.fx import Node

    from edgeq.lower.xnnpack import LoweredBackendModule


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """Why nodes were left out, by their names: by the delegate, then by XNNPACK."""

    delegate: dict[str, Why]
    xnnpack: dict[str, Why]


def left_out(
    on_cpu: Sequence[LoweredBackendModule], outside: Sequence[Node], refusals: Refusals, name: str, *, total: int
) -> Iterator[Undelegated]:
    """The rows of a record for what the delegate called ``name`` left; conversions between integers and floats aside.

    ``total`` are the multiply-accumulates of the program.
    """
    in_xnnpack = [node for part in on_cpu for node in part.original_module.graph.nodes]
    for nodes, runs in ((in_xnnpack, "XNNPACK"), (outside, "ExecuTorch's own kernel")):
        for node in nodes:
            if not is_operator(node) or only_converts(node):
                continue
            called = plain_name(operator_name(node))
            why = refusals.delegate.get(node.name) or Why(
                "constraint", f"{name} takes this {called} alone, but in no partition with its neighbours"
            )
            also = refusals.xnnpack.get(node.name) if runs != "XNNPACK" else None
            yield Undelegated(
                node=node.name,
                op=getattr(node.target, "__name__", str(node.target)),
                reason=f"{why}; {runs} computes it on the CPU{f' ({also.sentence})' if also else ''}",
                mac_share=share(macs(node), total) if total else 0.0,
                source=source_of(node),
            )
