"""What quantizing gives and lowering takes."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch.export import ExportedProgram

from edgeq.recipe import Recipe
from edgeq.records import CalibrationData, FoldedInput


@dataclass(frozen=True, kw_only=True)
class QuantizedProgram:
    """One graph of which every artifact of a recipe is made.

    ``program`` computes on float tensors between pairs of quantize and
    dequantize nodes; for the recipe ``fp32`` there are none and it is
    ``float_program`` itself. ``float_program`` is the same graph before
    quantization: MACs are counted on it. Nodes of both carry the user's
    source lines. ``calibration`` is None where nothing was calibrated.
    ``looped`` is ``program`` with its recurrent layers whole, in float, on
    the values that their integer weights stand for, where ``program`` has
    them step by step; None where both would be the same. ``notes`` say in
    sentences what became other than the recipe names. ``folded`` is what
    the programs make of an image's bytes, which they take then; it is None
    where they take what the user's module takes, as ``float_program`` does.
    """

    model: str
    recipe: Recipe
    program: ExportedProgram
    float_program: ExportedProgram
    example_inputs: tuple[torch.Tensor, ...]
    calibration: CalibrationData | None
    looped: ExportedProgram | None = None
    notes: tuple[str, ...] = ()
    folded: FoldedInput | None = None

    @property
    def quantizes_at_run_time(self) -> bool:
        """Whether only layers are quantized, and their inputs while the model runs: all between them is float."""
        return self.recipe.method in ("dynamic", "weight-only")

    def copy_to_lower(self, *, looped: bool = False) -> ExportedProgram:
        """``program`` for a consumer that changes what it is given, as both lowerings do; tensors are shared.

        ``looped`` asks for the form with whole recurrent layers.
        """
        program = (self.looped if looped else None) or self.program
        tensors = (*program.state_dict.values(), *program.constants.values())
        return copy.deepcopy(program, {id(tensor): tensor for tensor in tensors})
