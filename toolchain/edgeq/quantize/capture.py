"""From the user's module to a functional graph of ATen operators."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from edgeq.errors import ExportError
from edgeq.quantize.source import user_line
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

_OPERATOR = re.compile(r"(?:aten|torchvision|torch)[.:]{1,2}\w+(?:\.\w+)?")


def capture(name: str, module: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> GraphModule:
    """Export ``module`` for the shapes of ``example_inputs``; ``name`` is for messages.

    The graph has no in-place operators and no dropout; convolution and
    linear are single nodes. Every node knows the user's source line.
    ExportError if torch.export cannot do it.
    """
    try:
        program = export(module, example_inputs)
        with quietly():
            graph: GraphModule = program.run_decompositions({}).module(check_guards=False)
    except Exception as error:  # torch.export raises whatever the traced code and its own passes raise
        raise ExportError(
            name, _first_line(error), operator=_operator(error), source=user_line(error), detail=str(error)
        ) from error
    return graph


def export(module: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> ExportedProgram:
    """torch.export without its warnings, which speak to its own developers."""
    with quietly(), torch.no_grad():
        return torch.export.export(module, example_inputs)


def _operator(error: BaseException) -> str:
    found = _OPERATOR.search(str(error))
    return found.group() if found else ""


def _first_line(error: Any) -> str:  # noqa: ANN401  # some of torch's exceptions carry more than text
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
