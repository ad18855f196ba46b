"""Weight-only quantization: linear layers with int8 or int4 weights, for models that are mostly matrices.

It makes the file small and the reading of weights cheap, which is what
bounds a language model on a small machine. Scales of int4 weights are for
groups of consecutive inputs, as in Frantar et al., "GPTQ: Accurate
Post-Training Quantization for Generative Pre-trained Transformers" (ICLR
2023), without its second-order correction.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from edgeq.errors import RecipeError
from edgeq.quantize.integer_weights import (
    int4_by_group,
    int8_by_channel,
    layers_of,
    store_tables_as_int8,
    use_integer_weights,
)
from edgeq.quantize.program import QuantizedProgram
from edgeq.quantize.selection import names_of, selected
from edgeq.quantize.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.fx import Node

    from edgeq.progress import Progress
    from edgeq.quantize.float_graph import FloatGraph
    from edgeq.quantize.integer_weights import IntegerWeight
    from edgeq.recipe import Recipe

_SMALLEST_GROUP = 32
"""XNNPACK takes groups of a multiple of 32 only."""


def quantize_weight_only(source: FloatGraph, recipe: Recipe, *, progress: Progress) -> QuantizedProgram:
    """Store the weights of linear layers as ``recipe.weights`` says, embedding tables as int8; all else stays float.

    A layer whose inputs are no multiple of the group takes the largest
    smaller group that fits, or int8 if none does; the program's notes name
    the latter. RecipeError if
    ``recipe.keep_float`` names a layer that is not there, or the group is
    none that XNNPACK takes.
    """
    if recipe.weights == "int4" and (recipe.group_size < _SMALLEST_GROUP or recipe.group_size % _SMALLEST_GROUP):
        raise RecipeError(
            recipe.name,
            f"group_size is {recipe.group_size}",
            f"XNNPACK takes multiples of {_SMALLEST_GROUP}: write group_size = {_SMALLEST_GROUP}",
        )
    progress.step(f"rounding weights to {recipe.weights}")
    rounding = partial(_int4, group_size=recipe.group_size) if recipe.weights == "int4" else int8_by_channel
    with torch_threads(source.threads):
        graph = source.copy()
        selected(graph.graph, recipe)  # complains of a pattern that matches nothing
        store_tables_as_int8(graph, recipe)
        layers = [layer for layer in layers_of(graph, recipe) if _is_linear(layer)]
        notes = tuple(_not_int4(layers, recipe)) if recipe.weights == "int4" else ()
        use_integer_weights(graph, layers, rounding)
        program, folded = source.exported(graph)
        return QuantizedProgram(
            model=source.model,
            recipe=recipe,
            program=program,
            float_program=source.program,
            example_inputs=source.artifact_inputs,
            calibration=None,
            notes=notes,
            folded=folded,
        )


def _not_int4(layers: list[Node], recipe: Recipe) -> Iterator[str]:
    """A sentence that names the layers whose inputs make no group."""
    unfit = {names_of(layer)[-1]: _inputs(layer) for layer in layers if _inputs(layer) % _SMALLEST_GROUP}
    if unfit:
        told = ", ".join(f"{name} ({inputs} inputs)" for name, inputs in unfit.items())
        yield f"{recipe.name}: int8 in place of int4, as the inputs are no multiple of {_SMALLEST_GROUP}: {told}"


def _inputs(layer: Node) -> int:
    return int(layer.args[1].meta["val"].shape[1])  # type: ignore[union-attr]  # a layer reads a weight


def _is_linear(layer: Node) -> bool:
    return bool(layer.target == torch.ops.aten.linear.default)


def _int4(weight: torch.Tensor, *, group_size: int) -> IntegerWeight:
    fitting = [size for size in range(group_size, 0, -_SMALLEST_GROUP) if weight.shape[1] % size == 0]
    return int4_by_group(weight, fitting[0]) if fitting else int8_by_channel(weight)
