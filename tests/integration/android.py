"""An adb server with Android devices that are folders: the protocol is adb's, the programs are this machine's.

As adb does, it ends a program with the connection it belongs to, and counts
its exit status as a shell does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from edgeq.device.adb import HOME

_HEADER = struct.Struct("<BI")


@dataclass(kw_only=True)
class Phone:
    """A device: ``shell`` is its shell, ``path`` its PATH; after ``cut_after`` bytes of input it is gone."""

    folder: Path
    state: str = "device"
    features: str = "cmd,shell_v2,stat_v2"
    refuses: str = ""
    shell: str = "/bin/sh"
    path: str = os.environ["PATH"]
    cut_after: int | None = None
    commands: list[str] = field(default_factory=list)


class FakeAdbServer:
    """Listens on ``port`` until it is closed; ``phones`` may be changed at any time."""

    def __init__(self, phones: dict[str, Phone], port: int = 0) -> None:
        self.phones = phones
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._open: dict[socket.socket, str] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            _hang_up(sock)

    def unplug(self, serial: str) -> None:
        """Let a device be gone, with everything that ran over its cable."""
        self.phones.pop(serial, None)
        for sock, of in list(self._open.items()):
            if of == serial:
                _hang_up(sock)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        self._open[sock] = ""
        with contextlib.suppress(OSError, ValueError), sock:
            serial = None
            while True:
                request = _exactly(sock, int(_exactly(sock, 4), 16)).decode(errors="surrogateescape")
                if serial is not None:
                    self._service(sock, serial, request)
                    break
                if request.startswith("host:transport:"):
                    serial = request.removeprefix("host:transport:")
                    problem = self._problem(serial)
                    if problem:
                        _fail(sock, problem)
                        break
                    self._open[sock] = serial
                    sock.sendall(b"OKAY")
                    continue
                self._host(sock, request)
                break
        del self._open[sock]

    def _problem(self, serial: str) -> str:
        phone = self.phones.get(serial)
        if phone is None:
            return f"device '{serial}' not found"
        return "" if phone.state == "device" else f"device {phone.state}."

    def _host(self, sock: socket.socket, request: str) -> None:
        if request == "host:version":
            _say(sock, "0029")
        elif request == "host:devices":
            _say(sock, "".join(f"{serial}\t{phone.state}\n" for serial, phone in self.phones.items()))
        elif request.startswith("host-serial:") and request.endswith(":features"):
            serial = request.removeprefix("host-serial:").removesuffix(":features")
            problem = self._problem(serial)
            _fail(sock, problem) if problem else _say(sock, self.phones[serial].features)
        else:
            _fail(sock, "unknown host service")

    def _service(self, sock: socket.socket, serial: str, request: str) -> None:
        phone = self.phones[serial]
        if phone.refuses or not request.startswith("shell,v2,raw:"):
            _fail(sock, phone.refuses or "closed")
            return
        command = request.removeprefix("shell,v2,raw:")
        phone.commands.append(command)
        sock.sendall(b"OKAY")
        process = subprocess.Popen(
            [phone.shell, "-c", command.replace(HOME, str(phone.folder)).encode(errors="surrogateescape")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env={"PATH": phone.path, "HOME": "/"},
        )
        assert process.stdin is not None
        out = threading.Lock()
        pumps = [
            threading.Thread(target=_pump, args=(stream, sock, kind, out), daemon=True)
            for kind, stream in ((1, process.stdout), (2, process.stderr))
            if stream is not None
        ]
        for pump in pumps:
            pump.start()
        feeder = threading.Thread(target=self._feed, args=(sock, serial, phone, process), daemon=True)
        feeder.start()
        for pump in pumps:
            pump.join()
        status = process.wait()
        with out, contextlib.suppress(OSError):
            sock.sendall(_HEADER.pack(3, 1) + bytes([128 - status if status < 0 else status]))
            sock.shutdown(socket.SHUT_WR)
        feeder.join()  # until the other side hangs up: closing on unread input would reset what was sent

    def _feed(self, sock: socket.socket, serial: str, phone: Phone, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            while True:
                kind, size = _HEADER.unpack(_exactly(sock, _HEADER.size))
                data = _exactly(sock, size)
                if kind == 4:
                    process.stdin.close()
                    continue
                if phone.cut_after is not None:
                    phone.cut_after -= size
                    if phone.cut_after < 0:
                        self.unplug(serial)
                with contextlib.suppress(BrokenPipeError, ValueError):
                    process.stdin.write(data)
        except OSError:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)
            with contextlib.suppress(OSError):
                process.stdin.close()


def _pump(stream: IO[bytes], sock: socket.socket, kind: int, out: threading.Lock) -> None:
    with stream:
        while data := stream.read(1 << 15):
            with out, contextlib.suppress(OSError):  # nobody listens: read on, so that the program can end
                sock.sendall(_HEADER.pack(kind, len(data)) + data)


def _exactly(sock: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = sock.recv(size - len(received))
        if not chunk:
            raise ConnectionResetError
        received += chunk
    return bytes(received)


def _say(sock: socket.socket, text: str) -> None:
    sock.sendall(b"OKAY" + b"%04x" % len(text.encode()) + text.encode())


def _fail(sock: socket.socket, reason: str) -> None:
    sock.sendall(b"FAIL" + b"%04x" % len(reason.encode()) + reason.encode())


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
