"""Where the work of a model is, and how much of it each way of quantizing could take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeq.quantize.capture import capture
from edgeq.quantize.dynamic import dynamic_layers
from edgeq.quantize.macs import macs, operator_name, total_macs
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.rewrite import simplify
from edgeq.quantize.rewrite.recurrent import unroll_recurrent_layers
from edgeq.quantize.threads import torch_threads
from edgeq.recipe import RECIPES

if TYPE_CHECKING:
    from torch.fx import Node

    from edgeq.model import Model
    from edgeq.progress import Progress

Kind = Literal["convolutions", "linear layers", "recurrent layers", "products"]

_KINDS: dict[str, Kind] = {
    "linear": "linear layers",
    "addmm": "linear layers",
    "lstm": "recurrent layers",
    "gru": "recurrent layers",
    "rnn_tanh": "recurrent layers",
    "rnn_relu": "recurrent layers",
}
"""Of an operator; one that is not here and begins with ``conv`` is a convolution, any other a product."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The multiply-accumulates of one pass: all of them, by kind, and the shares that could become int8.

    A product is one of two activations, as in attention. The shares are
    from 0 to 1; ``chained_share`` is the part of what is static whose
    inputs another int8 operation has made, so that nothing needs to be
    quantized in front of it.
    """

    macs: int
    kinds: dict[Kind, int]
    static_share: float
    chained_share: float
    dynamic_share: float


def measure_work(model: Model, *, threads: int = 1, progress: Progress) -> Work:
    """Look at the simplified float graph of ``model``; nothing is quantized. ExportError if it cannot be exported."""
    progress.step(f"exporting {model.name}")
    with torch_threads(threads):
        graph = capture(model.name, model.module, tuple(tensor.contiguous() for tensor in model.example_inputs))
        simplify(graph)
        kinds: dict[Kind, int] = {"convolutions": 0, "linear layers": 0, "recurrent layers": 0, "products": 0}
        for node in graph.graph.nodes:
            kinds[_kind(node)] += macs(node)
        plan = plan_int8(graph.graph)
        static = total_macs(operation.node for operation in plan.operations)
        chained = total_macs(one.node for one in plan.operations if plan.stored.issuperset(one.inputs))
        unroll_recurrent_layers(graph)
        # Unrolled steps are fewer: the first has no state to multiply.
        dynamic, unrolled = total_macs(dynamic_layers(graph, RECIPES["int8-dynamic"])), total_macs(graph.graph.nodes)
    macs_of_all = sum(kinds.values())
    return Work(
        macs=macs_of_all,
        kinds=kinds,
        static_share=_share(static, macs_of_all),
        chained_share=_share(chained, static),
        dynamic_share=_share(dynamic, unrolled),
    )


def _kind(node: Node) -> Kind:
    name = operator_name(node)
    return _KINDS.get(name) or ("convolutions" if name.startswith("conv") else "products")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
