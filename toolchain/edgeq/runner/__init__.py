"""The host's side of the native runner: building it, and talking to it on a device.

``toolchain/runner/README.md`` specifies what the two say to each other.
"""

from __future__ import annotations

from edgeq.runner.build import RunnerBundle, build_tools, bundle, is_built
from edgeq.runner.profile import OperatorTimes, operator_times
from edgeq.runner.protocol import Resources, Run
from edgeq.runner.session import BACK_TO_BACK, Execution, Pace, execute, hash_files, verify
from edgeq.triple import Engine

__all__ = [
    "BACK_TO_BACK",
    "Engine",
    "Execution",
    "OperatorTimes",
    "Pace",
    "Resources",
    "Run",
    "RunnerBundle",
    "build_tools",
    "bundle",
    "execute",
    "hash_files",
    "is_built",
    "operator_times",
    "verify",
]
