"""Names and literals as Swift writes them."""

from __future__ import annotations

import re

import numpy as np

_TAKEN_MODULES = frozenset(
    {"ExecuTorch", "Foundation", "OnnxRuntimeBindings", "PackageDescription", "Swift", "XCTest"}
    | {"executorch", "backend_xnnpack", "backend_coreml", "kernels_optimized", "kernels_quantized", "onnxruntime"}
)
_MODULE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def module_problem(name: str, class_name: str) -> str:
    """Why ``name`` cannot be the module of that class; empty if it can."""
    if not _MODULE.fullmatch(name):
        return "is no Swift module: letters of ASCII, digits and _ after a letter"
    if name in _TAKEN_MODULES:
        return "is what another module of the package is called"
    if name == class_name:
        return "is the name of the class in it, which would hide the module's other types"
    return ""


def quoted(text: str) -> str:
    """A string literal of printable text."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def float_bits(value: float) -> str:
    """The bits of the float32 nearest to ``value``: a decimal literal could be rounded twice on its way there."""
    bits = int(np.float32(value).view(np.uint32))
    return f"0x{bits >> 16:04x}_{bits & 0xFFFF:04x}"
