"""A real OpenSSH server on a loopback port, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeq.device.ssh_connection import Address

if TYPE_CHECKING:
    from collections.abc import Iterator


def require(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{program} is not installed")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def make_key(path: Path, *, passphrase: str = "") -> None:
    keygen = [require("ssh-keygen"), "-q", "-t", "ed25519", "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(keygen, check=True)


@dataclass(frozen=True, kw_only=True)
class Sshd:
    """A running server; ``home`` is the HOME of the client under test."""

    folder: Path
    home: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> Address:
        return Address(name="shelf", host="127.0.0.1", port=self.port)

    def public(self, key: str = "host") -> str:
        kind, blob = (self.folder / f"{key}.pub").read_text().split()[:2]
        return f"{kind} {blob}"

    def accept(self, line: str = "") -> None:
        (self.home / ".ssh" / "known_hosts").write_text(line or f"[127.0.0.1]:{self.port} {self.public()}\n")

    def configure(self, text: str) -> None:
        (self.home / ".ssh" / "config").write_text(text)

    def cut(self) -> None:
        """End every connection at once, as a pulled plug does."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Let every connection stand still, as a kernel that hangs does."""
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        for pid in _below(self.process.pid):
            with contextlib.suppress(OSError):  # it may have ended by itself meanwhile
                if b"sshd" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    os.kill(pid, number)


def _below(pid: int) -> list[int]:
    """Every process that descends from one, children first."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [found for child in children for found in (*_below(child), child)]


@contextlib.contextmanager
def sshd(tmp_path: Path, *, fsize: int | None = None, listen: str = "127.0.0.1", more: str = "") -> Iterator[Sshd]:
    program = require("sshd")
    folder, home = tmp_path / "server", tmp_path / "home"
    folder.mkdir()
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    for path in (folder / "host", folder / "other", home / ".ssh" / "id_ed25519"):
        make_key(path)
    shutil.copy(home / ".ssh" / "id_ed25519.pub", folder / "authorized")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # the server insists on it when root starts it
    with socket.create_server((listen, 0), family=socket.AF_INET6 if ":" in listen else socket.AF_INET) as sock:
        port = int(sock.getsockname()[1])
    (folder / "config").write_text(
        f"ListenAddress {listen}\nPort {port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n{more}"
    )
    limit = ["prlimit", f"--fsize={fsize}"] if fsize else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*limit, program, "-D", "-e", "-f", str(folder / "config")], stderr=log, stdin=subprocess.DEVNULL
        )
    server = Sshd(folder=folder, home=home, port=port, process=process)
    try:
        _await_listening(server, listen)
        yield server
    finally:
        server.cut()
        process.terminate()
        process.wait(10)


def _await_listening(server: Sshd, address: str) -> None:
    for _ in range(500):
        assert server.process.poll() is None, (server.folder / "log").read_text()
        try:
            socket.create_connection((address, server.port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("sshd did not listen within 10 s")
