"""The host's side of the native runner: building it, and talking to it on a device.

``toolchain/runner/README.md`` specifies what the two say to each other.
"""

from __future__ import annotations

from edgeq.runner.build import (
    SYSROOTS,
    RunnerBundle,
    build_hash,
    build_tools,
    bundle,
    came_along,
    is_built,
    runtime_version,
)
from edgeq.runner.elf import floor_of
from edgeq.runner.profile import OperatorTimes, operator_times
from edgeq.runner.protocol import PROTOCOL, Resources, Run
from edgeq.runner.session import BACK_TO_BACK, Execution, Pace, execute, hash_files, verify
from edgeq.triple import Engine

__all__ = [
    "BACK_TO_BACK",
    "PROTOCOL",
    "SYSROOTS",
    "Engine",
    "Execution",
    "OperatorTimes",
    "Pace",
    "Resources",
    "Run",
    "RunnerBundle",
    "build_hash",
    "build_tools",
    "bundle",
    "came_along",
    "execute",
    "floor_of",
    "hash_files",
    "is_built",
    "operator_times",
    "runtime_version",
    "verify",
]
