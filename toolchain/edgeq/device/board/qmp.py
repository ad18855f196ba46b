"""Talking to a running QEMU: the QEMU Machine Protocol, JSON lines over a unix socket."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from edgeq.device.board.unix_socket import connect_to

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self


class QmpError(Exception):
    """QEMU refused a command, or did not answer it."""


class Qmp:
    """A connection to the monitor of one QEMU, which serves one at a time."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        """Connect to the monitor that listens at ``path``; no answer may take longer than ``timeout_s``."""
        try:
            self._socket = connect_to(path, timeout_s=timeout_s)
        except OSError as error:
            raise QmpError(f"its monitor cannot be reached: {error}") from error
        self._lines = self._socket.makefile("rb")
        try:
            self._receive()  # the greeting
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None) -> Any:  # noqa: ANN401  # any JSON
        """Run a command and return what it returns; a file descriptor ``fd`` goes along with it."""
        request = json.dumps({"execute": command, "arguments": dict(arguments or {})}).encode() + b"\n"
        try:
            socket.send_fds(self._socket, [request], [] if fd is None else [fd])
        except OSError as error:
            raise QmpError(f"{command}: {error}") from error
        while True:
            answer = self._receive()
            if "error" in answer:
                raise QmpError(f"{command}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]
            # Anything else is an event, which nobody here waits for.

    def close(self) -> None:
        """Let go of the monitor, so that the next one may use it."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
            answer = json.loads(line) if line else None
        except (OSError, ValueError) as error:
            raise QmpError(f"its monitor does not answer: {error}") from error
        if not isinstance(answer, dict):
            raise QmpError("its monitor closed the connection")
        return answer
