"""A way to a server on this machine that is slow, far away, or breaks."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 16 * 1024


class Link:
    """Listens on ``port`` of the loopback and passes everything on to another port there.

    ``cut_after`` bytes towards the server every connection is reset and no
    other is taken. ``bytes_per_s`` bounds both ways each, ``latency_s`` is
    added to each piece once a way.
    """

    def __init__(self, to: int, *, bytes_per_s: float | None, latency_s: float, cut_after: int | None) -> None:
        self.sent = 0
        self._to = to
        self._bytes_per_s = bytes_per_s
        self._latency_s = latency_s
        self._cut_after = cut_after
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._over = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Reset every connection and take no other."""
        with self._lock:
            self._over = True
            for one in (self._listener, *self._open):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            with self._lock:
                if self._over:
                    return
                self._open += [near, far]
            for source, sink, counted in ((near, far, True), (far, near, False)):
                pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(64)
                threading.Thread(target=self._take, args=(source, pieces, counted), daemon=True).start()
                threading.Thread(target=self._give, args=(sink, pieces), daemon=True).start()

    def _take(self, source: socket.socket, pieces: queue.Queue[tuple[float, bytes]], counted: bool) -> None:
        while True:
            try:
                data = source.recv(_PIECE)
            except OSError:
                data = b""
            if counted:
                self.sent += len(data)
                if self._cut_after is not None and self.sent > self._cut_after:
                    self.close()
                    return
            pieces.put((time.monotonic() + self._latency_s, data))
            if not data:
                return
            if self._bytes_per_s:
                time.sleep(len(data) / self._bytes_per_s)

    @staticmethod
    def _give(sink: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
        while True:
            due, data = pieces.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:
                return


@contextlib.contextmanager
def link(
    to: int, *, bytes_per_s: float | None = None, latency_s: float = 0.0, cut_after: int | None = None
) -> Iterator[Link]:
    """A link to port ``to`` while the block runs."""
    made = Link(to, bytes_per_s=bytes_per_s, latency_s=latency_s, cut_after=cut_after)
    try:
        yield made
    finally:
        made.close()
