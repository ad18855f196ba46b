"""Print how fast a file gets to a device: edgeq's push beside `scp` and SFTP as paramiko has it.

    python benchmarks/run_push.py [--megabytes N] [--rounds N] [--target NAME] [--out FOLDER]

To a real OpenSSH server on this machine's loopback, and to the emulated
board (dropbear). Each round visits every way once, in an order of its own;
each visit connects, copies and hangs up. Writes ``results.json``, with every
run, and ``results.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import getpass
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from machine import machine

from edgeq.device import board
from edgeq.device.ssh import SshTransport
from edgeq.device.ssh_connection import Address, Connection
from edgeq.files import write_text
from edgeq.progress import Silent
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent / "push"
MEGABYTES = 50
SHUFFLE = 7


@dataclass(frozen=True, kw_only=True)
class Run:
    """One file on one way, once: seconds from before the connection to after it."""

    server: str
    way: str
    round: int
    seconds: float


def main() -> None:
    """Copy, print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--megabytes", type=int, default=MEGABYTES, metavar="N")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--target", default="rpi4", help="whose emulated board")
    options.add_argument("--out", type=Path, default=HERE)
    chosen = options.parse_args()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "file"
        file.write_bytes(random.Random(SHUFFLE).randbytes(chosen.megabytes * 1_000_000))  # noqa: S311  # incompressible
        for name, server in (("OpenSSH on loopback", loopback), ("emulated board", emulated)):
            with server(Path(scratch), chosen.target) as (address, folder):
                runs += visits(name, address, folder, file, chosen.rounds)
    write(chosen.out, runs, chosen.megabytes)
    print((chosen.out / "results.md").read_text())


def visits(server: str, address: Address, folder: str, file: Path, rounds: int) -> list[Run]:
    """Every way in every round; what arrives is compared in the first one."""
    runs = []
    for number in range(rounds):
        for way in random.Random(number).sample(list(WAYS), len(WAYS)):  # noqa: S311  # an order, no secret
            there = f"{folder}/{way.replace(' ', '-')}"
            began = time.monotonic()
            WAYS[way](address, file, there)
            run = Run(server=server, way=way, round=number, seconds=time.monotonic() - began)
            print(f"{server:22} {way:16} {run.seconds:6.2f} s", flush=True)
            runs.append(run)
            with contextlib.closing(SshTransport.connect(address)) as device:
                if number == 0:
                    device.get(there, file.with_name("back"))
                    if file.with_name("back").read_bytes() != file.read_bytes():
                        sys.exit(f"{way} to {server} brought other bytes")
                device.run(["rm", "--", there])
    return runs


def by_edgeq(address: Address, file: Path, there: str) -> None:
    """What ``edgeq deploy`` does with each blob."""
    with contextlib.closing(SshTransport.connect(address)) as device:
        device.put(file, there)


def by_scp(address: Address, file: Path, there: str) -> None:
    """The program, its own defaults, in the same trust."""
    known = file.with_name("known_hosts")
    known.write_text(f"[{address.host}]:{address.port} {address.host_key}\n")
    options = ["-q", "-F", "none", "-P", str(address.port), "-i", str(address.key_path), "-o", "IdentitiesOnly=yes"]
    options += ["-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
    subprocess.run(["scp", *options, str(file), f"{address.user}@{address.host}:{there}"], check=True)


def by_sftp(address: Address, file: Path, there: str) -> None:
    """``SFTPClient.put``, which waits for no answers but those of the last blocks."""
    connection = Connection(address)
    with contextlib.closing(connection), connection.wire.open_sftp_client() as sftp:
        sftp.put(str(file), there)


WAYS: dict[str, Callable[[Address, Path, str], None]] = {
    "edgeq": by_edgeq,
    "scp": by_scp,
    "paramiko's SFTP": by_sftp,
}


@contextlib.contextmanager
def loopback(scratch: Path, _target: str) -> Iterator[tuple[Address, str]]:
    """An OpenSSH server of this machine, with keys of its own."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or sys.exit(
        "openssh-server is not installed"
    )
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(scratch / key)], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # the server insists on it when root starts it
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = int(sock.getsockname()[1])
    (scratch / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {scratch}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {scratch}/user.pub\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    process = subprocess.Popen([program, "-D", "-f", str(scratch / "config")], stdin=subprocess.DEVNULL)
    address = Address(
        name="loopback",
        host="127.0.0.1",
        port=port,
        user=getpass.getuser(),
        key_path=scratch / "user",
        host_key=" ".join((scratch / "host.pub").read_text().split()[:2]),
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
        yield address, str(scratch)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def emulated(_scratch: Path, target: str) -> Iterator[tuple[Address, str]]:
    """The emulated board of a target."""
    with board.ephemeral(load_target(target), progress=Silent()) as running:
        address = Address(
            name="board",
            host=running.host,
            port=running.port,
            user=running.user,
            key_path=running.key_path,
            host_key=running.host_key,
        )
        yield address, "."


def write(out: Path, runs: list[Run], megabytes: int) -> None:
    """Write every run and the table of their medians."""
    document = {
        "measured_at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "megabytes": megabytes,
        "runs": [asdict(run) for run in runs],
    }
    write_text(out / "results.json", json.dumps(document, indent=1) + "\n")
    write_text(out / "results.md", markdown(runs, megabytes) + "\n")


def markdown(runs: list[Run], megabytes: int) -> str:
    """Medians over the rounds, and each beside that of ``scp`` to the same server."""
    lines = ["| to | by | MB/s | slowest and fastest | against scp |", "| --- | --- | --: | --: | --: |"]
    for server in dict.fromkeys(run.server for run in runs):
        rates = {
            way: sorted(megabytes / run.seconds for run in runs if (run.server, run.way) == (server, way))
            for way in WAYS
        }
        scp = statistics.median(rates["scp"])
        for way, some in rates.items():
            median = statistics.median(some)
            lines.append(f"| {server} | {way} | {median:.1f} | {some[0]:.1f} to {some[-1]:.1f} | {median / scp:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
