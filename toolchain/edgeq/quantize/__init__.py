"""From the user's model to one quantized graph, of which every artifact of a recipe is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.quantize.dynamic import quantize_dynamic
from edgeq.quantize.float_graph import FloatGraph
from edgeq.quantize.program import QuantizedProgram
from edgeq.quantize.static import Settled, quantize_static
from edgeq.quantize.weight_only import quantize_weight_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeq.progress import Progress
    from edgeq.recipe import Recipe

__all__ = ["FloatGraph", "QuantizedProgram", "Settled", "quantize"]


def quantize(
    source: FloatGraph, recipe: Recipe, *, look: Callable[[Settled], None] | None = None, progress: Progress
) -> QuantizedProgram:
    """Turn the weights and activations of a model into what ``recipe`` says.

    ``look`` is shown the numbers of a static recipe before they are used.
    A recipe that trains starts from the trained model's graph; one that
    searches has to be settled first.
    """
    match recipe.method:
        case "none":
            return source.float_twin(recipe)
        case "static" | "qat":
            return quantize_static(source, recipe, look=look, progress=progress)
        case "dynamic":
            return quantize_dynamic(source, recipe, progress=progress)
        case "weight-only":
            return quantize_weight_only(source, recipe, progress=progress)
        case "search":
            raise ValueError(f"{recipe.name} is a search, not a way to quantize")
