"""Static post-training quantization: scales and zero points from what calibration saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch.fx import GraphModule

from edgeq.quantize.adaround import round_adaptively
from edgeq.quantize.bias import correct_biases
from edgeq.quantize.emit import emit
from edgeq.quantize.equalize import equalize
from edgeq.quantize.even_results import even_results
from edgeq.quantize.findings import uneven_channels
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.program import QuantizedProgram
from edgeq.quantize.rewrite.recurrent import step_by_step
from edgeq.quantize.scheme import Scheme, settle
from edgeq.quantize.selection import selected
from edgeq.quantize.simulate import simulated_sqnr_db
from edgeq.quantize.smooth import smooth
from edgeq.quantize.statistics import Statistics
from edgeq.quantize.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeq.progress import Progress
    from edgeq.quantize.float_graph import FloatGraph
    from edgeq.recipe import Recipe


_SCALINGS = ("smooth", "equalize")
_WORTHWHILE_DB = 1.0
"""Simulations of less are chance: they run some samples only."""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A float graph as its recipe prepares it, every number of its int8 form, and what calibration saw of it.

    ``notes`` say what was done that the recipe left open.
    """

    graph: GraphModule
    scheme: Scheme
    statistics: Statistics
    notes: tuple[str, ...] = ()


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
        emitted = emit(found.graph, found.scheme)
        unrolled = step_by_step(emitted)
        program, folded = source.exported(emitted)
    return QuantizedProgram(
        model=source.model,
        recipe=recipe,
        program=program if unrolled is None else source.exported(unrolled)[0],
        looped=None if unrolled is None else program,
        float_program=source.program,
        example_inputs=source.artifact_inputs,
        calibration=found.statistics.data,
        folded=folded,
    )


def settled(source: FloatGraph, recipe: Recipe, *, progress: Progress) -> Settled:
    """Prepare a copy of the graph of ``source`` and choose every number as ``recipe`` says.

    Where the recipe leaves open whether channels are scaled, they are if
    one scale starves many channels of a tensor and a simulation sees a gain.
    """
    found = _scaled(source, recipe, progress=progress)
    open_ones = [name for name in _SCALINGS if recipe.method == "static" and getattr(recipe, name) is None]
    if open_ones and next(uneven_channels(found.scheme, found.statistics), None) is not None:
        found = _improved(source, recipe, found, open_ones, progress=progress)
    if recipe.adaround:
        round_adaptively(
            found.graph, found.scheme, source.samples(), biases_follow=recipe.bias_correction, progress=progress
        )
    if recipe.bias_correction:
        correct_biases(found.graph, found.scheme, source.samples(), progress=progress)
    return found


def _improved(
    source: FloatGraph, recipe: Recipe, found: Settled, techniques: Sequence[str], *, progress: Progress
) -> Settled:
    """``found`` with those of ``techniques`` that a simulation on calibration samples gains from."""
    progress.step("some channels are starved by the scale they share: trying what evens them out")
    before = _simulated(source, found)
    for name in techniques:
        other_recipe = replace(recipe, **{name: True})  # type: ignore[arg-type]  # the names are fields that are bool
        other = _scaled(source, other_recipe, progress=progress)
        after = _simulated(source, other)
        if after >= before + _WORTHWHILE_DB:
            note = f"{recipe.name} uses +{name}: a simulation gives {after:.1f} dB with it, {before:.1f} dB without"
            found, recipe, before = replace(other, notes=(*found.notes, note)), other_recipe, after
    return found


def _simulated(source: FloatGraph, found: Settled) -> float:
    return simulated_sqnr_db(source.graph, found.graph, found.scheme, source.samples())


def _scaled(source: FloatGraph, recipe: Recipe, *, progress: Progress) -> Settled:
    """Everything but the rounding of weights."""
    graph = source.copy()
    statistics = source.statistics(progress=progress)
    if recipe.smooth and smooth(graph, statistics) + even_results(graph, statistics):
        statistics = source.statistics_of(graph, progress=progress)
    if recipe.equalize and equalize(graph, statistics, per_channel=recipe.per_channel):
        statistics = source.statistics_of(graph, progress=progress)
    plan = plan_int8(graph.graph, keep_float=selected(graph.graph, recipe))
    return Settled(
        graph=graph, scheme=settle(graph, plan, statistics, recipe, learned=source.learned), statistics=statistics
    )
