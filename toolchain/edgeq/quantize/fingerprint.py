"""What a float graph computes, as a hash: what was gathered or tried for one is good for an equal one only."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant, is_constant

if TYPE_CHECKING:
    from torch.fx import GraphModule


def graph_sha256(graph: GraphModule) -> str:
    """Of a graph's code, with that of the graphs inside, and of every tensor it reads.

    Parameters and buffers, those that are not part of the state dict too,
    and tensors that the user's module holds as plain attributes.
    """
    digest = hashlib.sha256()
    for module in graph.modules():
        if isinstance(module, torch.fx.GraphModule):
            digest.update(module.code.encode())
    read = {str(node.target): constant(graph, node) for node in graph.graph.nodes if is_constant(node)}
    for name, tensor in sorted({**read, **graph.state_dict()}.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
