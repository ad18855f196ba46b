"""Whole numbers in float arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.fx import GraphModule

_ATEN = torch.ops.aten
_ARITHMETIC = (_ATEN.add.Tensor, _ATEN.sub.Tensor, _ATEN.mul.Tensor, _ATEN.div.Tensor)


def make_scalars_float(graph: GraphModule) -> None:
    """Write ``x * 2`` as ``x * 2.0``: ExecuTorch would convert the number at run time, outside XNNPACK.

    Before: any graph. After: no sum, difference, product or quotient in
    float32 has an int for an operand.
    """
    for node in graph.graph.nodes:
        if node.target in _ARITHMETIC and node.meta["val"].dtype == torch.float32:
            node.args = tuple(float(arg) if isinstance(arg, int) else arg for arg in node.args)
