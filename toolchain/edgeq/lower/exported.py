"""The words of an exported int8 program, for the rewrites of one that is about to be lowered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.export import ExportedProgram

ATEN = torch.ops.aten
READ = torch.ops.quantized_decomposed.dequantize_per_tensor.default
STORE = torch.ops.quantized_decomposed.quantize_per_tensor.default


def state_names(program: ExportedProgram) -> dict[str, str]:
    """What the placeholders of parameters and buffers are called in the state of ``program``."""
    return {**program.graph_signature.inputs_to_buffers, **program.graph_signature.inputs_to_parameters}
