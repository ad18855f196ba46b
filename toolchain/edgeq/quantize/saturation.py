"""Which values of a tensor matter to what reads it: int8 need not tell those apart that an activation makes equal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from edgeq.quantize.rewrite.functions import is_elementwise, values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.fx import Node

_ATEN = torch.ops.aten
_SAME_VALUES = (_ATEN.reshape.default, _ATEN.permute.default, _ATEN.transpose.int, _ATEN.slice.Tensor)

_LONGEST = 10
_TOLERANCE = 2.0**-9
"""Half a step of an int8 tensor that spans 1."""

_MAGNITUDES = 2.0 ** (torch.arange(-10 * 64, 20 * 64 + 1, dtype=torch.float64) / 64)
_POINTS = torch.cat([-_MAGNITUDES.flip(0), torch.zeros(1, dtype=torch.float64), _MAGNITUDES])
"""From a thousandth to a million, both signs, 1.1 % apart."""

UNBOUNDED = (-math.inf, math.inf)


def useful_bounds(*tensors: Node) -> tuple[float, float]:
    """The range beyond which what is computed of ``tensors``, which share a scale, no longer changes.

    So they may saturate there: below -3 before a hard-swish, below about -8
    before ``x * sigmoid(x)``, beyond both sides before a sigmoid or a clamp.
    Beyond the range a result differs from that at its end by at most 2**-9
    of what it spans where the tensor is between -1 and 1, half a step of
    int8. A side is infinite if a reader needs all of it.
    """
    bounds = [_bounds_of(tensor) for tensor in tensors]
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _bounds_of(tensor: Node) -> tuple[float, float]:
    users = list(tensor.users)
    if not users or any(user.op == "output" for user in users):
        return UNBOUNDED
    if all(user.target in _SAME_VALUES and user.args[0] is tensor for user in users):
        return useful_bounds(*users)
    low, high = UNBOUNDED
    for result in _all_that_is_seen(tensor):
        found = _bounds(values(result, tensor, _POINTS))
        low, high = max(low, found[0]), min(high, found[1])
    return (low, high) if low < high else UNBOUNDED


def _all_that_is_seen(tensor: Node) -> Iterator[Node]:
    """The nodes, near ones first, through each of which alone ``tensor`` is read, and which read nothing else."""
    seen = {tensor}
    pending = set(tensor.users)
    for _ in range(_LONGEST):
        ready = [node for node in pending if seen.issuperset(node.all_input_nodes)]
        if not ready or not all(is_elementwise(node) for node in ready):
            return
        if len(pending) == 1:
            yield ready[0]
        for node in ready:
            seen.add(node)
            pending.remove(node)
            pending.update(node.users)


def _bounds(results: torch.Tensor) -> tuple[float, float]:
    """Between which of the points the ``results`` change by more than the tolerance."""
    inside = results[_POINTS.abs() <= 1]
    tolerance = _TOLERANCE * float(inside.max() - inside.min())
    low = _settled_until(results, tolerance)
    high = _settled_until(results.flip(0), tolerance)
    return (
        float(_POINTS[low]) if low else -math.inf,
        float(_POINTS[len(_POINTS) - 1 - high]) if high else math.inf,
    )


def _settled_until(results: torch.Tensor, tolerance: float) -> int:
    """The last place from which all ``results`` before it differ by no more than ``tolerance``; NaN always differs."""
    above = torch.cummax(results, 0).values - results
    below = results - torch.cummin(results, 0).values
    settled = (above <= tolerance) & (below <= tolerance)
    return int(settled.nonzero().max()) if bool(settled.any()) else 0
