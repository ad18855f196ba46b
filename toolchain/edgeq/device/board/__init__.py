"""Emulated ARM boards: a real Linux with a real ssh, played by QEMU on this machine.

:func:`start` and :func:`stop` are for boards that outlive a command,
:func:`ephemeral` for one that ends with it.
"""

from __future__ import annotations

from edgeq.device.board.lifecycle import ephemeral, logs, require, running, start, stop
from edgeq.device.board.listening import Listening, parse_listening
from edgeq.device.board.qemu import PROGRAMS
from edgeq.device.board.registry import RunningBoard

__all__ = [
    "PROGRAMS",
    "Listening",
    "RunningBoard",
    "ephemeral",
    "logs",
    "parse_listening",
    "require",
    "running",
    "start",
    "stop",
]
