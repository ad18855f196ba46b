"""Runs a program in a chroot as an engine would in a container, as far as mount and process namespaces go.

What differs from an engine: the network is the host's, there are no cgroups,
no user namespace, no seccomp filter, and root keeps all its capabilities.
Everything that is mounted or started goes with the namespaces, however the
program ends.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The kernel ends the container with the program that started it, and all in it with its first process.
NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"),
)
_ENDING_S = 10.0


class ChrootError(Exception):
    """A step failed, or this machine cannot run it."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A file or folder of this machine at ``at`` in the container."""

    source: Path
    at: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Process:
    """What an image says of how its programs run."""

    env: Mapping[str, str] = field(default_factory=dict)
    user: str = "root"
    workdir: str = "/"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user of a root: its numbers and its home."""

    uid: int
    gid: int
    home: str


def account(root: Path, user: str) -> Account:
    """The account of ``user`` (a name or a number) in the /etc/passwd of ``root``."""
    passwd = root / "etc/passwd"
    lines = passwd.read_text(encoding="utf-8").splitlines() if passwd.is_file() else []
    for line in lines:
        name, _, uid, gid, _, home, *_ = line.split(":")
        if user in (name, uid):
            return Account(uid=int(uid), gid=int(gid), home=home)
    raise ChrootError(f"no user {user!r} in {passwd}")


class Container:
    """One program in ``root``, and everything it starts.

    With ``layer``, a folder of its own for what it changes, ``root`` itself
    stays as it is (an overlay); without it the changes stay in ``root``, as
    those of a build do.
    """

    def __init__(  # noqa: PLR0913  # each is one side of a container
        self,
        root: Path,
        argv: Sequence[str],
        process: Process,
        *,
        mounts: Sequence[Mount] = (),
        hosts: Sequence[str] = (),
        layer: Path | None = None,
        output: int | None = None,
    ) -> None:
        self._who = account(root, process.user)
        self._process = process
        names = Mount(source=Path("/etc/resolv.conf").resolve(), at="/etc/resolv.conf", read_only=True)
        script = _entering(root, layer, (*mounts, names), hosts) + f"exec {shlex.join(self._command(argv, ROOT))}\n"
        self._running = subprocess.Popen(
            [*NAMESPACES, "/bin/sh", "-c", script.replace(ROOT, '"$root"')],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> int:
        """Wait for the program to end; its exit status."""
        try:
            return self._running.wait()
        finally:
            self._running.kill()

    def status(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._running.poll()

    def run_inside(self, argv: Sequence[str]) -> int | None:
        """Run another program in there, as its user; its exit status, or None while the root is not ready."""
        first = self._first()
        try:
            # Until it is, the first process is still in the root of this machine.
            if first is None or Path(f"/proc/{first}/root").readlink() == Path("/"):
                return None
        except OSError:  # it has just ended
            return None
        inside = ("nsenter", "--target", str(first), "--mount", "--pid", "--root", "--wd")
        return subprocess.run(
            [*inside, *self._command(argv, "/")], stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode

    def stop(self) -> int:
        """What ``docker stop`` does: SIGTERM to the first process, SIGKILL when it has not ended in time."""
        first = self._first()
        if first is not None:
            os.kill(first, signal.SIGTERM)
            deadline = time.monotonic() + _ENDING_S
            while self.status() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            self._running.kill()
        return self.wait()

    def _command(self, argv: Sequence[str], root: str) -> list[str]:
        env = {"PATH": _PATH, "HOME": self._who.home, **self._process.env}
        return [
            *("chroot", root),
            # A process that changes its user is no longer ended with its parent, so this comes again, and last.
            *("/usr/bin/setpriv", f"--reuid={self._who.uid}", f"--regid={self._who.gid}", "--clear-groups"),
            *("--pdeathsig", "KILL", "--"),
            *("/usr/bin/env", "-i", "-C", self._process.workdir, *(f"{k}={v}" for k, v in env.items())),
            *argv,
        ]

    def _first(self) -> int | None:
        """The number, in this namespace, of the container's first process; None before it is there, and after."""
        if self.status() is not None:
            return None
        children = Path(f"/proc/{self._running.pid}/task/{self._running.pid}/children").read_text().split()
        return int(children[0]) if children else None


ROOT = "@root@"


def _entering(root: Path, layer: Path | None, mounts: Sequence[Mount], hosts: Sequence[str]) -> str:
    """The shell script that makes the root ready, in namespaces of its own."""
    lines = ["set -e", f"root={shlex.quote(str(root))}"]
    if layer is not None:
        for part in ("upper", "work", "merged"):
            (layer / part).mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={root},upperdir={layer}/upper,workdir={layer}/work"
        lines += [f"mount -t overlay -o {shlex.quote(options)} overlay {layer}/merged", f"root={layer}/merged"]
    lines += [
        'cd "$root"; mkdir -p proc sys dev',
        "mount -t proc proc proc; mount -t sysfs -o ro sysfs sys; mount -t tmpfs -o mode=755 dev dev",
        "mkdir dev/pts dev/shm; mount -t tmpfs -o mode=1777 shm dev/shm",
        "mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts; ln -s pts/ptmx dev/ptmx",
        *(f"touch dev/{name}; mount --bind /dev/{name} dev/{name}" for name in _DEVICES),
        *(f"ln -s {to} dev/{name}" for name, to in _LINKS.items()),
        f"echo 127.0.0.1 localhost {shlex.join(hosts)} > dev/hosts",
        "mkdir -p etc; touch etc/hosts; mount --bind dev/hosts etc/hosts; mount -o remount,bind,ro etc/hosts",
    ]
    for mount in mounts:
        at = shlex.quote(mount.at.lstrip("/"))
        make = f"mkdir -p {at}" if mount.source.is_dir() else f'mkdir -p "$(dirname {at})"; [ -e {at} ] || touch {at}'
        lines.append(f"{make}; mount --bind {shlex.quote(str(mount.source))} {at}")
        if mount.read_only:
            lines.append(f"mount -o remount,bind,ro {at}")
    return "\n".join([*lines, "cd /", ""])
