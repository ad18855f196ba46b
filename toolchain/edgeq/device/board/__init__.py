"""Emulated ARM boards: a real Linux with a real ssh, played by QEMU on this machine.

:func:`start` and :func:`stop` are for boards that outlive a command,
:func:`ephemeral` for one that ends with it.
"""

from __future__ import annotations

from edgeq.device.board.lifecycle import ephemeral, logs, require, running, start, stop
from edgeq.device.board.qemu import PROGRAMS
from edgeq.device.board.registry import RunningBoard

__all__ = ["PROGRAMS", "RunningBoard", "ephemeral", "logs", "require", "running", "start", "stop"]
