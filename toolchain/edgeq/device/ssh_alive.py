"""Notice that the other side of a connection is gone: ``ServerAliveInterval`` and ``ServerAliveCountMax`` of OpenSSH.

A pulled cable sends nothing, and a program that computes may be silent for
minutes: only a question that must be answered tells one from the other.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import paramiko

_LOOK_EVERY_S = 0.5


class HeardSocket:
    """A socket, or what stands for one, that knows when something last came from it."""

    def __init__(self, sock: Any) -> None:  # noqa: ANN401  # a socket or a channel
        self._sock = sock
        self.heard_at = time.monotonic()

    def recv(self, size: int) -> bytes:
        """The next bytes, as of a socket."""
        data: bytes = self._sock.recv(size)
        self.heard_at = time.monotonic()
        return data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # everything else is the socket's
        return getattr(self._sock, name)


class Watch:
    """Closes a connection that stays silent, though it was asked to answer.

    Asks after ``every_s`` without a byte from the other side, and gives up
    after ``count`` times that; data that still waits to be sent does not
    count as an answer, what the other side sends for any reason does.
    """

    def __init__(self, wire: paramiko.Transport, sock: HeardSocket, *, every_s: float, count: int) -> None:
        self._wire = wire
        self._sock = sock
        self._every_s = every_s
        self._count = max(count, 1)
        self._over = threading.Event()
        self._question: threading.Thread | None = None
        threading.Thread(target=self._watch, name="edgeq-ssh-watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more; a second call does nothing."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(min(self._every_s / 2, _LOOK_EVERY_S)) and self._wire.is_active():
            silent_s = time.monotonic() - self._sock.heard_at
            if silent_s > self._every_s * self._count:
                self._wire.close()
            elif silent_s > self._every_s and not (self._question and self._question.is_alive()):
                # One that waits for its answer, and to be sent at all: hence a thread.
                self._question = threading.Thread(target=self._ask, daemon=True)
                self._question.start()

    def _ask(self) -> None:
        try:
            self._wire.global_request("keepalive@openssh.com", wait=True)
        except (paramiko.SSHException, EOFError, OSError):
            return  # the connection has ended, and whoever uses it learns that by itself
