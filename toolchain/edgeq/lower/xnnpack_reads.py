"""A dequantize node of its own for everybody who reads an int8 tensor.

XNNPACK computes images channels last. Where a partition hands one to the
outside, ExecuTorch 1.5 turns it back behind its dequantize node, and then
gives what it turned to all who read that node, those inside included, which
it has already settled to be channels last: the pass fails, or the file
computes on axes in the wrong order. A node that the outside alone reads can
be turned without harm. ``convert_pt2e`` separates the readers that are int8
themselves; float operators remain, and those of which ExecuTorch makes
several when it decomposes them (softplus, mish).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.lower.xnnpack import PassResult, is_dequant, is_quant

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


def read_apart(module: GraphModule) -> PassResult:
    """A pass for a graph in the edge dialect, decomposed and not yet partitioned."""
    shared = [node for node in module.graph.nodes if _reads_an_activation(node) and len(node.users) > 1]
    for node in shared:
        for reader in list(node.users)[1:]:
            with module.graph.inserting_after(node):
                reader.replace_input_with(node, module.graph.node_copy(node))
    module.recompile()
    return PassResult(module, bool(shared))


def _reads_an_activation(node: Node) -> bool:
    """Whether ``node`` reads a tensor that the graph quantizes: weights are integers already."""
    return bool(is_dequant(node) and is_quant(node.args[0]))
