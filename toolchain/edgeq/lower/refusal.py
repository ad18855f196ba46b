"""Why a runtime, or what writes its files, refused a program: the operator it stumbled over and the user's line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch.fx import Node

from edgeq.errors import EdgeqError, LoweringError
from edgeq.quantize.macs import operator_name
from edgeq.quantize.source import source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.quantize import QuantizedProgram
    from edgeq.records import Format

_NAMED = (
    (re.compile(r"Operator (?:torch\._ops\.)?(\S+) is not in Core ATen opset"), "ExecuTorch does not know {}"),
    (re.compile(r"kernel '(\S+)' not found"), "ExecuTorch has no kernel for {}"),
    (re.compile(r"KernelCall failed at instruction \S+ in operator (\S+):"), "ExecuTorch's kernel for {} does not run"),
    (re.compile(r"Error when translating node .*target=torch\.ops\.([^\]\s]+)\]"), "ONNX has nothing for {}"),
    (re.compile(r"Could not find an implementation for (\S+) node"), "ONNX Runtime has no kernel for {}"),
)
"""How each names an operator in its messages."""

_IN_THREE_DIMENSIONS = ("conv3d", "conv_transpose3d")
"""The convolutions that ExecuTorch's own kernel is left with, and refuses: XNNPACK takes all others."""


class RefusedError(Exception):
    """Raised from what a writer of files raised, whatever that was; never leaves :mod:`edgeq.lower`."""


def refused(program: QuantizedProgram, form: Format, error: Exception, *, alternative: Format | None) -> LoweringError:
    """The error for the user; ``alternative`` is the format that takes the program."""
    causes = list(_causes(error))
    said = "\n".join(dict.fromkeys(text for cause in causes if (text := _text(cause))))
    node = next((node for cause in causes if (node := _node_at_work(cause)) is not None), None)
    source = source_of(node) if node is not None else ""
    for pattern, sentence in _NAMED:
        if named := pattern.search(said):
            reason, source = sentence.format(named.group(1)), _source(program, named.group(1)) or source
            break
    else:
        reason = _headline(causes[0]) + (f" (at {operator_name(node)})" if node is not None else "")
    return LoweringError(program.model, form, reason, source=source, detail=said, alternative=alternative)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """From what was raised last to what began it, without the wrapping of our own."""
    while error is not None:
        if not isinstance(error, RefusedError):
            yield error
        error = error.__cause__ or error.__context__


def _text(error: BaseException) -> str:
    if isinstance(error, EdgeqError):
        return f"{error.message}\n{error.detail}".strip()
    said = str(error).strip()
    return said if len(said.split()) > 1 else f"{type(error).__name__}: {said}"  # a KeyError says its key alone


def _headline(error: BaseException) -> str:
    return _text(error).splitlines()[0]


def _source(program: QuantizedProgram, operator: str) -> str:
    """The line of the first node of that operator; ``aten::sort.values`` is a form of ``aten.sort.default``."""
    name = "".join(re.split(r"::|\.", operator)[1:2])
    names = _IN_THREE_DIMENSIONS if name == "convolution" else (name,)
    return next((source_of(node) for node in program.program.graph.nodes if operator_name(node) in names), "")


def _node_at_work(error: BaseException) -> Node | None:
    """The node that the innermost frame that has one was at: passes over graphs seldom say which."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        for name in ("node", "n"):
            node = trace.tb_frame.f_locals.get(name)
            if isinstance(node, Node) and node.op == "call_function":
                found = node
        trace = trace.tb_next
    return found
