"""The serial console of a board: where it says that it is up, and takes requests.

The guest's side is ``guest/console.sh``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgeq.device.board.unix_socket import connect_to

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

READY = b"edgeq: ready"
_CLOCK_SET = b"edgeq: clock set"
_CHUNK = 4096
_TAIL_LINES = 15


class ConsoleClosedError(Exception):
    """QEMU closed the console: it has ended."""


class Console:
    """A connection to the console of one board; TimeoutError when ``deadline`` (monotonic, in seconds) passes."""

    def __init__(self, path: Path, *, deadline: float) -> None:
        self._deadline = deadline
        self._socket = connect_to(path, timeout_s=1.0)
        self._seen = b""

    def wait_until_ready(self) -> None:
        """Wait for ssh to listen on a board that boots."""
        self._wait_for(READY)

    def set_clock(self) -> None:
        """Set the guest's clock to the host's, within a second."""
        self._socket.sendall(b"clock %d\n" % round(time.time()))
        self._wait_for(_CLOCK_SET)

    def close(self) -> None:
        """Let go of the console; what the board says goes on into its log."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_for(self, text: bytes) -> None:
        while text not in self._seen:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                chunk = self._socket.recv(_CHUNK)
            except ConnectionError as error:
                raise ConsoleClosedError from error
            if not chunk:
                raise ConsoleClosedError
            self._seen += chunk


def log_lines(log: Path) -> tuple[str, ...]:
    """The lines of a board's log that say something; none if there is no log."""
    if not log.is_file():
        return ()
    text = log.read_bytes().decode(errors="replace").replace("\r", "")
    return tuple(line.rstrip() for line in text.splitlines() if line.strip())


def log_tail(*logs: Path) -> str:
    """The last lines of those logs."""
    return "\n".join(line for log in logs for line in log_lines(log)[-_TAIL_LINES:])
