"""A client of the adb server on the user's machine, which owns the way to every Android device.

The protocol is that of ``OVERVIEW.TXT`` and ``SERVICES.TXT`` beside adb's
sources: a request is its length in four hexadecimal digits and its text,
the answer ``OKAY`` or ``FAIL`` with a reason. Once a connection was switched
to a device, its next request goes there.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile

from edgeq.errors import AdbServerAddressError, AdbServerError, NoAdbServerError

_PORT = 5037
_ANSWER_S = 15.0
_START_S = 60.0
_LONGEST = 0xFFFF
_HERE = ("localhost", "127.0.0.1", "::1")


class RefusedError(Exception):
    """The server said FAIL; the text is its reason."""


class AdbServer:
    """The server at ``address``: ``tcp:[host:]port`` or ``localfilesystem:path``, as ``ADB_SERVER_SOCKET`` has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._place = _place(address)

    @classmethod
    def reached(cls) -> AdbServer:
        """The server that the environment names, started if it can be.

        Raises AdbServerAddressError, NoAdbServerError if none answers and
        none can be started, AdbServerError if it cannot start or is none.
        """
        server = cls(_address())
        try:
            server.ask("host:version")
        except (ConnectionRefusedError, FileNotFoundError):
            server._start()
        except (OSError, RefusedError) as error:
            raise AdbServerError(server.address, str(error) or "it hung up") from error
        return server

    def devices(self) -> dict[str, str]:
        """The state of every device by its serial: "device" is one that can be used."""
        found = {}
        for line in self.ask("host:devices").splitlines():
            serial, _, state = line.partition("\t")
            found[serial] = state.strip()
        return found

    def features(self, serial: str) -> frozenset[str]:
        """What both the server and that device can do; RefusedError if it is not there."""
        return frozenset(self.ask(f"host-serial:{serial}:features").split(","))

    def ask(self, request: str) -> str:
        """The text that answers a request; RefusedError, or OSError if the server is not there."""
        with self._connect() as sock:
            _request(sock, request)
            return _text(sock)

    def open(self, serial: str, service: str) -> socket.socket:
        """A connection to a service on that device; RefusedError, or OSError if the server is not there."""
        sock = self._connect()
        try:
            _request(sock, f"host:transport:{serial}")
            _request(sock, service)
        except BaseException:
            sock.close()
            raise
        return sock

    def _connect(self) -> socket.socket:
        if isinstance(self._place, tuple):
            return socket.create_connection(self._place, timeout=_ANSWER_S)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(_ANSWER_S)
        try:
            sock.connect(self._place)
        except OSError:
            sock.close()
            raise
        return sock

    def _start(self) -> None:
        if isinstance(self._place, tuple) and self._place[0] not in _HERE:
            raise NoAdbServerError(self.address, "on another machine none can be started from here")
        program = shutil.which("adb")
        if program is None:
            raise NoAdbServerError(self.address, "there is no program adb here to start one")
        # Not a pipe: the server may keep it open as long as it lives.
        with tempfile.TemporaryFile() as log:
            try:
                done = subprocess.run(
                    [program, "start-server"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=_START_S,
                    check=False,
                )
                problem = f"{program} start-server ended with status {done.returncode}"
                if not done.returncode:
                    self.ask("host:version")
                    return
            except subprocess.TimeoutExpired:
                problem = f"{program} start-server did not end within {_START_S:.0f} s"
            except (OSError, RefusedError) as error:
                problem = f"it does not answer after {program} start-server ({error})"
            log.seek(0)
            raise AdbServerError(self.address, problem, detail=log.read()[-2000:].decode(errors="replace"))


def _address() -> str:
    named = os.environ.get("ADB_SERVER_SOCKET")
    if named:
        return named
    host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "localhost"
    return f"tcp:{host}:{os.environ.get('ANDROID_ADB_SERVER_PORT') or _PORT}"


def _place(address: str) -> tuple[str, int] | str:
    """Host and port, or the path of a socket."""
    kind, _, rest = address.partition(":")
    if kind == "localfilesystem" and rest:
        return rest
    found = re.fullmatch(r"(?:\[?([^\[\]]+)\]?:)?(\d{1,5})", rest)
    if kind != "tcp" or not found or not 0 < int(found[2]) < 1 << 16:
        raise AdbServerAddressError(address)
    return found[1] or "localhost", int(found[2])


def _request(sock: socket.socket, text: str) -> None:
    data = text.encode(errors="surrogateescape")
    if len(data) > _LONGEST:
        raise RefusedError(f"a request of {len(data)} bytes is longer than adb takes")
    sock.sendall(b"%04x" % len(data) + data)
    answer = _exactly(sock, 4)
    if answer == b"FAIL":
        raise RefusedError(_text(sock))
    if answer != b"OKAY":
        raise RefusedError(f"it answers {answer!r}, which is not adb's protocol")


def _text(sock: socket.socket) -> str:
    length = _exactly(sock, 4)
    try:
        return _exactly(sock, int(length, 16)).decode(errors="replace")
    except ValueError:
        raise RefusedError(f"it answers {length!r}, which is not adb's protocol") from None


def _exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes; ConnectionResetError if they end before."""
    received = bytearray()
    while len(received) < size:
        chunk = sock.recv(size - len(received))
        if not chunk:
            raise ConnectionResetError("the adb server hung up")
        received += chunk
    return bytes(received)
