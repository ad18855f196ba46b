"""An Android device, through the adb server of this machine.

Programs run under adb's shell protocol, version 2: one connection each, on
which packets carry stdin, stdout, stderr and the exit status. Files take
the way of :mod:`edgeq.device.shell` over it: adb's own ``sync`` service can
neither go on with a push that was cut, nor say why the device refused one.
When a connection ends, adb itself ends the program behind it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import socket
import struct
import threading
from typing import TYPE_CHECKING

from edgeq.device.adb_server import AdbServer, RefusedError
from edgeq.device.conversation import SLICE_S, SilenceError, converse
from edgeq.device.shell import ShellTransport
from edgeq.device.transport import Completed
from edgeq.errors import (
    AdbServerError,
    AndroidNotReadyError,
    ConnectionLostError,
    DeviceSilentError,
    WhichAndroidError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

HOME = "/data/local/tmp"
"""Where adb's user may write and start programs; its home folder, ``/``, is read-only."""

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_HEADER = struct.Struct("<BI")
_PACKET = 1 << 16
_QUEUED = 64

_STATES = {
    "unauthorized": ("it does not trust this computer yet", "unlock its screen and allow USB debugging there"),
    "authorizing": ("it is about to ask whether it trusts this computer", "unlock its screen and answer there"),
    "offline": ("it is offline", "plug it in again, or run: adb reconnect offline"),
}
_PERMISSIONS = (
    "this user may not open its USB port",
    "install the udev rules (sudo apt-get install android-sdk-platform-tools-common) and plug it in again",
)


class AdbTransport(ShellTransport):
    """An Android device; relative paths start at :data:`HOME`. Make one with :meth:`connect`."""

    def __init__(self, name: str, server: AdbServer, serial: str) -> None:
        self.name = name
        self._server = server
        self._serial = serial

    @classmethod
    def connect(cls, name: str, serial: str | None) -> AdbTransport:
        """Find the device: the one of that serial, else of ``ANDROID_SERIAL``, else the only one there is.

        Raises what :meth:`AdbServer.reached` does, WhichAndroidError, or
        AndroidNotReadyError with what keeps it from being used.
        """
        server = AdbServer.reached()
        try:
            devices = server.devices()
        except (OSError, RefusedError) as error:
            raise AdbServerError(server.address, str(error)) from error
        serial = serial or os.environ.get("ANDROID_SERIAL")
        if serial is None and len(devices) > 1:
            raise WhichAndroidError(devices)
        serial = serial or next(iter(devices), None)
        if serial is None:
            raise AndroidNotReadyError(
                name, "none is connected", "plug it in and allow USB debugging in its developer options"
            )
        _check_state(name, serial, devices)
        try:
            features = server.features(serial)
        except RefusedError as error:
            raise AndroidNotReadyError(name, str(error), "plug it in again") from error
        if "shell_v2" not in features:
            raise AndroidNotReadyError(
                name, "its adb tells no exit status (shell_v2)", "edgeq needs Android 7 or newer, and adb 1.0.36"
            )
        return cls(name, server, serial)

    def _command(self, argv: Sequence[str]) -> Sequence[str]:
        # Before Android 10 there is no /bin; the shell is on the path of every release.
        return ["sh" if argv[0] == "/bin/sh" else argv[0], *argv[1:]]

    def close(self) -> None:
        """Nothing is held between calls."""

    def _exec(
        self,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        timeout_s: float,
        doing: str,
    ) -> Completed:
        collected = bytearray()
        # As exec, so that it is the program itself that adb ends with the connection.
        ends = _Ends(self._open(f"shell,v2,raw:cd {HOME} && exec {shlex.join(argv)}", doing))
        try:
            stderr = converse(ends, stdin=stdin, on_stdout=on_stdout or collected.extend, timeout_s=timeout_s)
        except SilenceError:
            raise DeviceSilentError(self.name, doing.removesuffix(" ran"), timeout_s) from None
        finally:
            ends.close()
        if ends.status is None:
            raise ConnectionLostError(self.name, doing)
        return Completed(status=ends.status, stdout=bytes(collected), stderr=stderr)

    def _open(self, service: str, doing: str) -> socket.socket:
        try:
            return self._server.open(self._serial, service)
        except RefusedError as error:
            try:
                _check_state(self.name, self._serial, self._server.devices())
            except (OSError, RefusedError, AndroidNotReadyError):
                raise ConnectionLostError(self.name, doing) from error
            raise AndroidNotReadyError(self.name, f"it starts no program ({error})", "plug it in again") from error
        except OSError as error:
            raise ConnectionLostError(self.name, doing) from error


def _check_state(name: str, serial: str, devices: Mapping[str, str]) -> None:
    """Raise what keeps a device from being used, if anything does."""
    state = devices.get(serial)
    if state == "device":
        return
    if state is None:
        known = f"adb sees {', '.join(sorted(devices))}" if devices else "adb sees no device"
        reach = f"run: adb connect {serial}" if ":" in serial else "plug it in"
        raise AndroidNotReadyError(name, f"{serial} is not connected", f"{known}; {reach}")
    problem, hint = _PERMISSIONS if state.startswith("no permissions") else _STATES.get(state, ("", ""))
    raise AndroidNotReadyError(
        name, problem or f"it is in the state {state!r}", hint or "start it into Android, and plug it in again"
    )


class _Ends:
    """The near ends of a program behind one connection: packets in, two streams and a status out."""

    def __init__(self, sock: socket.socket) -> None:
        self.status: int | None = None
        self._sock = sock
        self._sock.settimeout(SLICE_S)
        self._closed = threading.Event()
        self._ended = threading.Event()
        self._unsent = memoryview(b"")
        self._streams = {kind: queue.Queue[bytes](_QUEUED) for kind in (_STDOUT, _STDERR)}
        threading.Thread(target=self._read, name="edgeq-adb", daemon=True).start()

    def close(self) -> None:
        """Hang up, which ends the program if it runs."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def send(self, data: memoryview) -> int:
        self._flush()  # of the packet before, whose bytes were counted as taken
        chunk = data[:_PACKET]
        self._unsent = memoryview(_HEADER.pack(_STDIN, len(chunk)) + bytes(chunk))
        with contextlib.suppress(TimeoutError):
            self._flush()
        return len(chunk)

    def end_input(self) -> None:
        last = _HEADER.pack(_CLOSE_STDIN, 0)
        self._unsent = memoryview(bytes(self._unsent) + last)
        while self._unsent:
            with contextlib.suppress(TimeoutError):
                self._flush()

    def receive(self) -> bytes:
        return self._next(_STDOUT)

    def receive_error(self) -> bytes:
        return self._next(_STDERR)

    def ended(self) -> bool:
        return self._ended.is_set()

    def _flush(self) -> None:
        while self._unsent:
            if self._ended.is_set():
                raise BrokenPipeError
            try:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
            except TimeoutError:
                raise
            except OSError as error:
                raise BrokenPipeError from error

    def _next(self, kind: int) -> bytes:
        try:
            return self._streams[kind].get(timeout=SLICE_S)
        except queue.Empty:
            raise TimeoutError from None

    def _read(self) -> None:
        """Take packets apart until the status, or the end of the connection."""
        try:
            while self.status is None:
                kind, size = _HEADER.unpack(self._exactly(_HEADER.size))
                while size:
                    piece = self._exactly(min(size, _PACKET))
                    size -= len(piece)
                    if kind == _EXIT:
                        self.status = piece[0]
                    elif kind in self._streams:
                        self._give(kind, piece)
        except OSError:
            pass  # it ended without a status, which says enough
        finally:
            self._ended.set()
            for kind in self._streams:
                self._give(kind, b"")

    def _give(self, kind: int, piece: bytes) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._streams[kind].put(piece, timeout=SLICE_S)
                return

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            try:
                chunk = self._sock.recv(size - len(received))
            except TimeoutError:
                continue
            if not chunk:
                raise ConnectionResetError
            received += chunk
        return bytes(received)
