"""The order in which weights lie in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant, is_constant, new_constant

if TYPE_CHECKING:
    from torch.fx import GraphModule


def make_constants_contiguous(graph: GraphModule) -> None:
    """Store every weight in the plain order of its dimensions.

    Channels-last weights (``module.to(memory_format=...)``) would give
    their strides to all that comes after them, and ExecuTorch fails on it.

    Before: constants are folded. After: every constant that is read is
    contiguous.
    """
    for node in list(graph.graph.nodes):
        if is_constant(node) and node.users and isinstance(node.meta.get("val"), torch.Tensor):
            value = constant(graph, node)
            if not value.is_contiguous():
                node.replace_all_uses_with(new_constant(graph, node, value))
