"""Lowering as a build does it: a file that does not run here says which operator of the model is to blame."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeq.errors import ArtifactError, UnrunnableError
from edgeq.lower import Coverage, lower
from edgeq.quantize.macs import operator_name
from edgeq.quantize.source import source_of

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.quantize import QuantizedProgram
    from edgeq.records import Format
    from edgeq.target import Target

_OPERATOR = re.compile(r"in operator (\S+?):? |running (\S+) node")
"""How ExecuTorch names the operator that refused its inputs, and how ONNX Runtime does."""


def lowered(program: QuantizedProgram, form: Format, target: Target, path: Path) -> Coverage:
    """Write ``program`` to ``path``; UnrunnableError if its runtime does not take the file, LoweringError as before."""
    try:
        return lower(program, form, target, path)
    except ArtifactError as error:
        found = _OPERATOR.search(f"{error.detail}\n{error.message} ")
        operator = next(filter(None, found.groups()), "") if found else ""
        source = _source(program, operator)
        raise UnrunnableError(
            program.model,
            form,
            error.reason,
            at=f"{operator} of {source}" if source else operator,
            detail=error.detail,
        ) from error


def _source(program: QuantizedProgram, operator: str) -> str:
    """The user's line that made the operator, where there is only one of its kind: ``aten::convolution.out``."""
    kind = operator.rpartition("::")[2].partition(".")[0]
    made = [
        source_of(node)
        for node in program.float_program.graph.nodes
        if node.op == "call_function" and _stem(operator_name(node)) and kind.startswith(_stem(operator_name(node)))
    ]
    return made[0] if len(made) == 1 else ""


def _stem(name: str) -> str:
    """The name without its dimensions: ``conv`` of ``conv3d``."""
    return re.sub(r"\d+d$", "", name)
