"""From the user's model to one quantized graph, of which every artifact of a recipe is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.errors import EmptyDatasetError
from edgeq.quantize.capture import capture, export
from edgeq.quantize.program import QuantizedProgram
from edgeq.quantize.rewrite import simplify
from edgeq.quantize.static import quantize_static
from edgeq.quantize.threads import torch_threads
from edgeq.records import CalibrationData

if TYPE_CHECKING:
    from edgeq.model import Dataset, Model
    from edgeq.progress import Progress
    from edgeq.recipe import Recipe

__all__ = ["QuantizedProgram", "quantize"]


def quantize(
    model: Model, recipe: Recipe, calibration: Dataset | None, *, threads: int = 1, progress: Progress
) -> QuantizedProgram:
    """Turn the weights and activations of ``model`` into what ``recipe`` says.

    The scales come from one forward pass over every sample of
    ``calibration``, which a recipe that quantizes nothing does not need.
    The module in ``model`` is not changed. ExportError if it cannot be
    exported, EmptyDatasetError without a sample, NonFiniteActivationError
    if a layer gives NaN or infinity.
    """
    # A channels-last input would be written into the .pte, which then fails whenever it runs.
    example_inputs = tuple(tensor.contiguous() for tensor in model.example_inputs)
    with torch_threads(threads):
        progress.step(f"exporting {model.name}")
        graph = capture(model.name, model.module, example_inputs)
        simplify(graph)
        float_program = export(graph, example_inputs)
        if not recipe.quantized:
            return QuantizedProgram(
                model=model.name,
                recipe=recipe,
                program=float_program,
                float_program=float_program,
                example_inputs=example_inputs,
                calibration=None,
            )
        if calibration is None:
            raise EmptyDatasetError("calibration")
        module = quantize_static(graph, recipe, calibration, progress=progress)
        return QuantizedProgram(
            model=model.name,
            recipe=recipe,
            program=export(module, example_inputs),
            float_program=float_program,
            example_inputs=example_inputs,
            calibration=CalibrationData(sha256=calibration.sha256, samples=calibration.samples or 0),
        )
