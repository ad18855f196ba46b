"""Static post-training quantization: scales and zero points from what calibration saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.fx import GraphModule

from edgeq.quantize.adaround import round_adaptively
from edgeq.quantize.bias import correct_biases
from edgeq.quantize.capture import export
from edgeq.quantize.emit import emit
from edgeq.quantize.equalize import equalize
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.program import QuantizedProgram
from edgeq.quantize.scheme import Scheme, settle
from edgeq.quantize.selection import selected
from edgeq.quantize.smooth import smooth
from edgeq.quantize.statistics import Statistics
from edgeq.quantize.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeq.progress import Progress
    from edgeq.quantize.float_graph import FloatGraph
    from edgeq.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A float graph as its recipe prepares it, every number of its int8 form, and what calibration saw of it."""

    graph: GraphModule
    scheme: Scheme
    statistics: Statistics


def quantize_static(
    source: FloatGraph, recipe: Recipe, *, look: Callable[[Settled], None] | None = None, progress: Progress
) -> QuantizedProgram:
    """Make the int8 program of ``recipe``; ``look`` is shown what is about to be emitted.

    EmptyDatasetError if there is no calibration sample,
    NonFiniteActivationError if a layer gives NaN or infinity for one,
    RecipeError if a pattern of ``recipe.keep_float`` matches no layer.
    """
    with torch_threads(source.threads):
        found = settled(source, recipe, progress=progress)
        if look is not None:
            look(found)
        progress.step("converting to int8")
        program = export(emit(found.graph, found.scheme), source.example_inputs)
    return QuantizedProgram(
        model=source.model,
        recipe=recipe,
        program=program,
        float_program=source.program,
        example_inputs=source.example_inputs,
        calibration=found.statistics.data,
    )


def settled(source: FloatGraph, recipe: Recipe, *, progress: Progress) -> Settled:
    """Prepare a copy of the graph of ``source`` and choose every number as ``recipe`` says."""
    graph = source.copy()
    statistics = source.statistics(progress=progress)
    if recipe.smooth and smooth(graph, statistics):
        statistics = source.statistics_of(graph, progress=progress)
    if recipe.equalize and equalize(graph, statistics, per_channel=recipe.per_channel):
        statistics = source.statistics_of(graph, progress=progress)
    plan = plan_int8(graph.graph, keep_float=selected(graph.graph, recipe))
    scheme = settle(graph, plan, statistics, recipe, learned=source.learned)
    former = None
    if recipe.adaround:
        former = round_adaptively(
            graph, scheme, source.samples(), biases_follow=recipe.bias_correction, progress=progress
        )
    if recipe.bias_correction:
        correct_biases(graph, scheme, statistics, former=former)
    return Settled(graph=graph, scheme=scheme, statistics=statistics)
