"""Which Python packages are here: those that edgeq always needs, and its extras, which pip installs by name.

Nothing is imported to find out.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

from edgeq.errors import MissingExtraError

EXTRAS = {
    "executorch": ("torch", "torchao", "executorch"),
    "onnx": ("torch", "torchao", "onnx", "onnxruntime", "onnxscript"),
    "export": ("jinja2",),
    "report": ("jinja2",),
}
"""The modules that an extra of pyproject.toml brings; a test holds the two against each other."""

EXTRA_OF = {"pte": "executorch", "onnx": "onnx"}
"""The extra that makes and runs files of a format on this machine."""

TOOLS = ("edgeq", "torch", "torchao", "executorch", "onnx", "onnxruntime")
"""The packages whose versions decide what a build comes out as."""


def version_of(package: str) -> str:
    """The version of an installed package, empty if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def tool_versions() -> dict[str, str]:
    """Of each of :data:`TOOLS` that is installed, its version."""
    return {tool: version for tool in TOOLS if (version := version_of(tool))}


def missing(extra: str) -> tuple[str, ...]:
    """The modules of an extra that are not here."""
    return tuple(module for module in EXTRAS[extra] if importlib.util.find_spec(module) is None)


def require(extra: str, *, needed_for: str) -> None:
    """MissingExtraError, with the command that mends it, unless all of an extra is here."""
    absent = missing(extra)
    if absent:
        raise MissingExtraError(extra, absent, needed_for=needed_for)
