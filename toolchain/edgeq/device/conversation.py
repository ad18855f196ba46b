"""Talk to a running program through its three pipes at once, whatever the pipes are made of.

stdin is fed by a thread of its own while stdout is read, so neither side
waits for the other: a program may answer each input before it takes the
next, or read everything first. Memory stays bounded, as nothing is read
ahead of what the pipes hold; silence is bounded by a time.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SLICE_S = 0.5
"""How long an end may block in one call: what a broken wait costs at most."""

_STDERR_KEPT = 256 * 1024


class SilenceError(Exception):
    """Nothing moved in either direction for the time allowed."""


class Ends(Protocol):
    """The near ends of a program's pipes.

    A call that cannot go on within :data:`SLICE_S` raises TimeoutError;
    one on a pipe whose far end is gone raises BrokenPipeError.
    """

    def send(self, data: memoryview) -> int:
        """Hand over at least one byte; how many were taken."""

    def end_input(self) -> None:
        """Tell the program that no more input comes."""

    def receive(self) -> bytes:
        """The next bytes of stdout; empty at its end."""

    def receive_error(self) -> bytes:
        """The next bytes of stderr; empty at its end."""

    def ended(self) -> bool:
        """Whether the program is known to have ended."""


def converse(ends: Ends, *, stdin: Iterable[bytes], on_stdout: Callable[[bytes], None], timeout_s: float) -> bytes:
    """Feed ``stdin``, hand every chunk of stdout to ``on_stdout``, return the last part of stderr.

    Returns when stdout and stderr have ended. Raises SilenceError, what
    ``on_stdout`` raised, or what iterating ``stdin`` raised; the caller
    then ends the program.
    """
    return _Conversation(ends, stdin, on_stdout, timeout_s).hold()


class _Conversation:
    """The state the three parties share."""

    def __init__(
        self, ends: Ends, stdin: Iterable[bytes], on_stdout: Callable[[bytes], None], timeout_s: float
    ) -> None:
        self._ends = ends
        self._stdin = stdin
        self._on_stdout = on_stdout
        self._timeout_s = timeout_s
        self._stderr = bytearray()
        self._failure: BaseException | None = None
        self._over = threading.Event()
        self._moved = time.monotonic()

    def hold(self) -> bytes:
        writer = threading.Thread(target=self._guarded, args=(self._feed,), daemon=True)
        listener = threading.Thread(target=self._guarded, args=(self._listen,), daemon=True)
        writer.start()
        listener.start()
        try:
            for chunk in self._chunks(self._ends.receive):
                self._on_stdout(chunk)
                self._moved = time.monotonic()
            for thread in (listener, writer):
                while thread.is_alive() and not (thread is writer and self._ends.ended()):
                    thread.join(SLICE_S / 10)
                    self._check()
            self._check()
        finally:
            self._over.set()
            listener.join()
            writer.join(2 * SLICE_S)  # longer only if the caller's iterator blocks; it then finds the talk over
        return bytes(self._stderr)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised again by the thread that holds the conversation
            self._failure = error

    def _check(self) -> None:
        """Raise what another thread met, or SilenceError when it is time."""
        if self._failure is not None:
            raise self._failure
        if time.monotonic() - self._moved > self._timeout_s:
            raise SilenceError

    def _chunks(self, receive: Callable[[], bytes]) -> Iterator[bytes]:
        while not self._over.is_set():
            try:
                chunk = receive()
            except TimeoutError:
                self._check()
                continue
            if not chunk:
                return
            self._moved = time.monotonic()
            yield chunk

    def _listen(self) -> None:
        for chunk in self._chunks(self._ends.receive_error):
            self._stderr += chunk
            del self._stderr[:-_STDERR_KEPT]

    def _feed(self) -> None:
        try:
            for data in self._stdin:
                if not self._send(data):
                    return
            self._ends.end_input()
        except BrokenPipeError:
            return  # the program wants no more; its status says why

    def _send(self, data: bytes) -> bool:
        rest = memoryview(data)
        while rest:
            if self._over.is_set():
                return False
            try:
                taken = self._ends.send(rest)
            except TimeoutError:
                continue
            rest = rest[taken:]
            self._moved = time.monotonic()
        return True
