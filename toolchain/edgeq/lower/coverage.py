"""What an artifact computes in int8, and what its accelerated kernels do not take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.records import Requires, TensorSpec, Undelegated


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Facts about an artifact that was just written.

    ``macs`` counts multiply-accumulates of one inference on the float
    graph. ``int8_mac_share`` is the part of them that is computed on int8
    operands, ``delegated_mac_share`` the part that runs in the runtime's
    accelerated kernels, float ones included; each format's module says how
    it knows. Both are 1 for a model without any MAC. ``undelegated`` lists
    what runs elsewhere or, in a quantized artifact, in float.
    """

    macs: int
    int8_mac_share: float
    delegated_mac_share: float
    partitions: int
    undelegated: tuple[Undelegated, ...]
    requires: Requires
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def share(part: int, whole: int) -> float:
    """``part`` of ``whole``; a model without MACs has all of none."""
    return part / whole if whole else 1.0
