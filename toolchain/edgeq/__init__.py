"""edgeq takes a PyTorch model to an ARM board and proves what it does there.

The verbs of the command line as functions: :func:`build`, :func:`deploy`,
:func:`bench`, :func:`report`, :func:`run`, :func:`export`. They take and return records.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.pipeline import BenchOptions, bench, build, connected, deploy, export, read_build, report, run
    from edgeq.progress import Silent
    from edgeq.runner import Pace

__all__ = [
    "BenchOptions",
    "Pace",
    "Silent",
    "bench",
    "build",
    "connected",
    "deploy",
    "export",
    "read_build",
    "report",
    "run",
]

_HOMES = {"Silent": "edgeq.progress", "Pace": "edgeq.runner"}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # the public names, imported when first used
    """Find a public name in its module, so that ``import edgeq`` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "edgeq.pipeline")), name)
