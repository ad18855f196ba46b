"""The quantized graph without what quantization has made superfluous; every value stays the same, bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgeq.quantize.rewrite.activations import CLAMPS, clamp_bounds

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule, Node

_QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
_DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default


def tidy(module: GraphModule) -> None:
    """Settle every clamp of a graph that ``convert_pt2e`` made."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.target in CLAMPS:
            _settle_clamp(graph, node)
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()


def _settle_clamp(graph: Graph, clamp: Node) -> None:
    """Drop a clamp whose quantized result saturates at its bounds anyway; give any other int8 on both sides.

    With the scale observed after the clamp, the int8 range is the clamp's
    or lies inside it: quantize(clamp(x)) == quantize(x) for every x. Where
    the scale is shared with a wider tensor, the clamp is computed on int8
    values, and what stands before it is quantized on its own.
    """
    quantizes = [user for user in clamp.users if user.target == _QUANTIZE]
    source = clamp.args[0]
    if len(quantizes) != 1 or len(clamp.users) != 1 or not isinstance(source, torch.fx.Node):
        return
    quantize = quantizes[0]
    if _saturates(clamp, quantize):
        clamp.replace_all_uses_with(source)
        return
    if source.target == _DEQUANTIZE:
        return
    with graph.inserting_before(clamp):
        stored = graph.call_function(_QUANTIZE, (source, *quantize.args[1:]))
        read = graph.call_function(_DEQUANTIZE, (stored, *quantize.args[1:]))
    stored.meta = dict(quantize.meta)
    read.meta = dict(clamp.meta)
    clamp.replace_input_with(source, read)


def _saturates(clamp: Node, quantize: Node) -> bool:
    _, scale, zero_point, smallest, largest, _ = quantize.args
    bounds = torch.tensor(clamp_bounds(clamp), dtype=torch.float32)
    low, high = (torch.round(bounds * (1.0 / float(scale))) + int(zero_point)).tolist()  # type: ignore[arg-type]
    return bool(low <= smallest and high >= largest)
