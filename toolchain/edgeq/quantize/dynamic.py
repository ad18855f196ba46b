"""Dynamic post-training quantization: int8 weights, and activations quantized while the model runs.

No calibration data is needed, and no range can be exceeded; the price is a
pass over the input of each layer at run time. What stands between layers
stays float.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgeq.quantize.attributes import constant, new_constant
from edgeq.quantize.integer_weights import (
    int8_by_channel,
    layers_of,
    stays_float,
    store_tables_as_int8,
    use_integer_weights,
)
from edgeq.quantize.program import QuantizedProgram
from edgeq.quantize.rewrite.recurrent import is_unrollable, unroll_recurrent_layers
from edgeq.quantize.selection import selected
from edgeq.quantize.threads import torch_threads

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

    from edgeq.progress import Progress
    from edgeq.quantize.float_graph import FloatGraph
    from edgeq.recipe import Recipe
    from edgeq.records import FoldedInput

_ATEN = torch.ops.aten


def quantize_dynamic(source: FloatGraph, recipe: Recipe, *, progress: Progress) -> QuantizedProgram:
    """Give linear layers, recurrent layers and plain 2-D convolutions int8 weights and activations ranged at run time.

    Depthwise convolutions (to XNNPACK also those of a single input
    channel), grouped, transposed and 1-D ones stay float: it has no such
    kernel for them. RecipeError if ``recipe.keep_float`` names a layer that
    is not there.
    """
    progress.step("rounding weights to int8")
    with torch_threads(source.threads):
        unrolled = source.copy()
        has_loops = unroll_recurrent_layers(unrolled)
        selected(unrolled.graph, recipe)  # complains of a pattern that matches nothing
        looped = None
        if has_loops:
            looped = source.copy()
            _round_recurrent_layers(looped, recipe)
        program, folded = _quantized(unrolled, source, recipe)
        return QuantizedProgram(
            model=source.model,
            recipe=recipe,
            program=program,
            looped=None if looped is None else _quantized(looped, source, recipe)[0],
            float_program=source.program,
            example_inputs=source.artifact_inputs,
            calibration=None,
            folded=folded,
        )


def _quantized(graph: GraphModule, source: FloatGraph, recipe: Recipe) -> tuple[ExportedProgram, FoldedInput | None]:
    store_tables_as_int8(graph, recipe)
    use_integer_weights(graph, dynamic_layers(graph, recipe), int8_by_channel)
    return source.exported(graph)


def _round_recurrent_layers(graph: GraphModule, recipe: Recipe) -> None:
    """Give whole recurrent layers the weights that the steps of the unrolled ones have."""
    for node in list(graph.graph.nodes):
        if not is_unrollable(node) or stays_float(node, recipe):
            continue
        parameters: Any = node.args[2]
        weights = [constant(graph, parameter) for parameter in parameters]
        rounded = [int8_by_channel(weight).rounded if weight.dim() > 1 else weight for weight in weights]
        node.update_arg(2, [new_constant(graph, node, weight) for weight in rounded])
    graph.recompile()


def dynamic_layers(graph: GraphModule, recipe: Recipe) -> list[Node]:
    """The layers that become int8, of a graph whose recurrent layers are unrolled if they shall."""
    return [layer for layer in layers_of(graph, recipe) if _has_kernel(layer)]


_TURNED = (_ATEN.conv2d.default, _ATEN.max_pool2d.default, _ATEN.avg_pool2d.default, _ATEN.mean.dim)
_MOVES = (_ATEN.slice.Tensor, _ATEN.constant_pad_nd.default)
_SUMS = (_ATEN.add.Tensor, _ATEN.sub.Tensor)


def _is_taken(image: Node) -> bool:
    """Whether ExecuTorch can lower a layer that quantizes this image while it runs.

    XNNPACK computes images channels last. Behind a reshape, a sum with a
    constant, and a slice or padding of what does not lie so yet, ExecuTorch
    1.5 turns the image after it was made int8, and the file fails whenever
    it runs.
    """
    if image.op == "placeholder" or image.target in _TURNED:
        return True
    sources = _sources(image)
    if image.target == _ATEN.reshape.default or (image.target in _SUMS and len(sources) == 1):
        return False
    return all(map(_lies_channels_last if image.target in _MOVES else _is_taken, sources))


def _lies_channels_last(image: Node) -> bool:
    if image.op == "placeholder" or image.target == _ATEN.reshape.default:
        return False
    return image.target in _TURNED or all(map(_lies_channels_last, _sources(image)))


def _sources(node: Node) -> list[Node]:
    return [source for source in node.all_input_nodes if source.op in ("call_function", "placeholder")]


def _has_kernel(layer: Node) -> bool:
    if layer.target == _ATEN.conv2d.default:
        weight: torch.Tensor = layer.args[1].meta["val"]  # type: ignore[union-attr]  # a layer reads a constant weight
        groups = layer.args[6] if len(layer.args) > 6 else 1  # noqa: PLR2004  # groups come seventh
        return bool(groups == 1 and weight.shape[1] > 1 and _is_taken(layer.args[0]))  # type: ignore[arg-type]  # it reads a node
    return bool(layer.target == _ATEN.linear.default)
