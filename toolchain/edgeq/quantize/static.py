"""Static post-training quantization: scales and zero points from what calibration saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.quantize.bias import correct_biases
from edgeq.quantize.capture import export
from edgeq.quantize.emit import emit
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.program import QuantizedProgram
from edgeq.quantize.scheme import settle
from edgeq.quantize.selection import selected
from edgeq.quantize.threads import torch_threads

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from edgeq.progress import Progress
    from edgeq.quantize.float_graph import FloatGraph
    from edgeq.quantize.scheme import Scheme
    from edgeq.recipe import Recipe


def quantize_static(source: FloatGraph, recipe: Recipe, *, progress: Progress) -> QuantizedProgram:
    """Make the int8 program of ``recipe``.

    EmptyDatasetError if there is no calibration sample,
    NonFiniteActivationError if a layer gives NaN or infinity for one,
    RecipeError if a pattern of ``recipe.keep_float`` matches no layer.
    """
    with torch_threads(source.threads):
        statistics = source.statistics(progress=progress)
        graph, scheme = settled(source, recipe, progress=progress)
        progress.step("converting to int8")
        module = emit(graph, scheme)
        program = export(module, source.example_inputs)
    return QuantizedProgram(
        model=source.model,
        recipe=recipe,
        program=program,
        float_program=source.program,
        example_inputs=source.example_inputs,
        calibration=statistics.data,
    )


def settled(source: FloatGraph, recipe: Recipe, *, progress: Progress) -> tuple[GraphModule, Scheme]:
    """The float graph as ``recipe`` prepares it, and every number of its int8 form."""
    graph = source.copy()
    statistics = source.statistics(progress=progress)
    plan = plan_int8(graph.graph, keep_float=selected(graph.graph, recipe))
    scheme = settle(graph, plan, statistics, recipe)
    if recipe.bias_correction:
        correct_biases(graph, scheme, statistics)
    return graph, scheme
