"""A real PostgreSQL server on a loopback port, with a database, a user and a password of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "ada"
PASSWORD = "gehe im/:@"  # noqa: S105  # of a server that lives for one test
"""One that has to be written otherwise in a URL."""

_QUOTED = "gehe%20im%2F%3A%40"


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A server that runs."""

    port: int

    def url(self, *, password: str = _QUOTED, database: str = "postgres") -> str:
        """What a person writes for a database of it."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A server with its data in ``folder`` while the block runs; it refuses to be root, so root lends it a user.

    Its databases have no encoding of their own (SQL_ASCII), the least that edgeq may meet.
    """
    binaries = _binaries()
    owner = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    data, words = folder / "data", folder / "password"
    words.write_text(PASSWORD)
    data.mkdir(mode=0o700)
    if owner:
        account = pwd.getpwnam("postgres")
        for path in (data, words):
            os.chown(path, account.pw_uid, account.pw_gid)
        for parent in (folder, *folder.parents[:-1]):
            parent.chmod(parent.stat().st_mode | 0o011)
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={words}", "-N", "--no-locale"],
        check=True,
        capture_output=True,
        cwd="/",
        **owner,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        **owner,
    )
    try:
        running = Postgres(port=port)
        _wait_for(running, server)
        yield running
    finally:
        server.send_signal(signal.SIGINT)  # its fast shutdown
        server.wait(timeout=30)


def _wait_for(running: Postgres, server: subprocess.Popen[bytes]) -> None:
    """Until it answers: it listens some time before."""
    for _ in range(600):
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(running.url()):
            return
        assert server.poll() is None, "the server ended"
        time.sleep(0.1)
    pytest.fail("the server does not answer")


def _binaries() -> Path:
    """Debian keeps the server's programs out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    if not found and os.environ.get("CI"):
        pytest.fail("PostgreSQL is not installed")
    if not found:
        pytest.skip("PostgreSQL is not installed")
    return found[-1].parent
