"""A device over SSH: nothing but ``sh``, ``cat`` and a few of their kind is needed there."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING, BinaryIO

import paramiko

from edgeq.device.conversation import SLICE_S, SilenceError, converse
from edgeq.device.ssh_connection import Address, Connection, nobody
from edgeq.device.transport import Completed
from edgeq.errors import (
    ConnectionLostError,
    DeviceDiskFullError,
    DeviceSilentError,
    NoShellError,
    RemoteFileError,
    UnwritableDeviceError,
)
from edgeq.files import atomic_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_CHUNK = 1 << 18
_OPEN_TIMEOUT_S = 30.0
_FILE_SILENCE_S = 120.0
_EXCEEDED_FILE_SIZE = 128 + signal.SIGXFSZ

_SUPERVISED = r"""
alive() { grep -qs "^PPid:.*[^0-9]$PPID\$" /proc/$$/status; }
exec 3<&0
"$@" <&3 3<&- &
child=$!
exec 3<&- </dev/null
if alive; then
  (trap 'kill $nap; exit' TERM
   while alive; do sleep 5 & nap=$!; wait $nap; done
   kill -9 $child) >/dev/null 2>&1 &
  watch=$!
fi
wait $child
status=$?
[ -z "${watch-}" ] || kill $watch
exit $status
"""
"""Runs its arguments. The SSH server's process is its parent: once that is gone, so is the program, cut or not."""

_PUT = r"""
LC_ALL=C; export LC_ALL
case $1 in */*) folder=${1%/*}; folder=${folder:-/} ;; *) folder=. ;; esac
temporary=$folder/.${1##*/}.$$.edgeq-tmp
part=$folder/.${1##*/}.part
give_up() { rm -f -- "$temporary"; exit "$1"; }
keep() { mv -f -- "$temporary" "$part"; exit "$1"; }
trap 'keep 10' HUP TERM PIPE
mkdir -p -- "$folder" || exit 11
if [ -d "$1" ]; then echo "is a folder" >&2; exit 12; fi
if [ "$4" -gt 0 ]; then
  mv -f -- "$part" "$temporary" && [ "$(wc -c < "$temporary")" -eq "$4" ] ||
    { echo "its beginning is gone" >&2; give_up 15; }
fi
cat >> "$temporary" || give_up $?
[ "$(wc -c < "$temporary")" -eq "$2" ] || { echo "arrived incomplete" >&2; keep 13; }
chmod "$3" "$temporary" && mv -f -- "$temporary" "$1" || give_up 14
"""
"""Takes a file from stdin: $1 is its path, $2 its size, $3 its mode, $4 how much of it is there.

What the device refuses (a full disk) is removed, what was cut is kept to go on from.
"""


class SshTransport:
    """A device over SSH; make one with :meth:`connect` and close it."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self._connection = connection

    @classmethod
    def connect(cls, address: Address, ask: Callable[[str], str | None] = nobody) -> SshTransport:
        """Connect and prove who both sides are.

        ``ask`` puts a question for a password or a passphrase to a person,
        and says None if nobody is there. Raises UnreachableError,
        UnknownHostKeyError, ChangedHostKeyError, RevokedHostKeyError or
        KeyRefusedError.
        """
        return cls(address.name, Connection(address, ask))

    def put(self, local: Path, remote: str, *, mode: int = 0o644, start: int = 0) -> None:
        """Stream a file to a temporary name there; it takes its own when size and bytes are complete."""
        with local.open("rb") as file:
            size = local.stat().st_size
            file.seek(start)
            chunks: Iterator[bytes] = iter(lambda: file.read(_CHUNK), b"")
            script = ["/bin/sh", "-c", _PUT, "sh", remote, str(size), f"{mode:o}", str(start)]
            done = self._exec(
                shlex.join(script), stdin=chunks, timeout_s=_FILE_SILENCE_S, doing=f"copying {local.name}"
            )
        if done.status:
            raise self._file_error(remote, done)

    def get(self, remote: str, local: Path) -> None:
        """Stream a file from there; ``local`` appears only when it is whole."""
        with atomic_file(local) as file:
            done = self._exec(
                "LC_ALL=C " + shlex.join(["cat", "--", remote]),
                on_stdout=lambda chunk: _write(file, chunk),
                timeout_s=_FILE_SILENCE_S,
                doing=f"copying {remote}",
            )
            if done.status:
                raise RemoteFileError(self.name, remote, _last_line(done))

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Completed:
        """Run a program and wait for it."""
        settings = ["env", *(f"{key}={value}" for key, value in env.items())] if env else []
        command = shlex.join(["exec", "/bin/sh", "-c", _SUPERVISED, "sh", *settings, *argv])
        return self._exec(command, stdin=stdin, on_stdout=on_stdout, timeout_s=timeout_s, doing=f"{argv[0]} ran")

    def close(self) -> None:
        """Hang up; a second call does nothing."""
        self._connection.close()

    def _exec(
        self,
        command: str,
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        timeout_s: float,
        doing: str,
    ) -> Completed:
        collected = bytearray()
        channel = self._start(command, doing)
        ends = _Ends(channel)
        try:
            stderr = converse(ends, stdin=stdin, on_stdout=on_stdout or collected.extend, timeout_s=timeout_s)
            status = ends.status(timeout_s)
        except SilenceError:
            self.close()  # ends the program too
            raise DeviceSilentError(self.name, doing.removesuffix(" ran"), timeout_s) from None
        finally:
            channel.close()
        if status is None:
            raise ConnectionLostError(self.name, doing)
        return Completed(status=status, stdout=bytes(collected), stderr=stderr)

    def _start(self, command: str, doing: str) -> paramiko.Channel:
        wire = self._connection.wire
        try:
            channel = wire.open_session(timeout=_OPEN_TIMEOUT_S)
            channel.exec_command(command.encode(errors="surrogateescape"))
        except (paramiko.SSHException, EOFError, OSError) as error:
            if wire.is_active():
                raise NoShellError(self.name, str(error)) from error
            raise ConnectionLostError(self.name, doing) from error
        channel.settimeout(SLICE_S)
        return channel

    def _file_error(self, remote: str, done: Completed) -> Exception:
        said = done.stderr.decode(errors="replace")
        if done.status == _EXCEEDED_FILE_SIZE or any(
            words in said for words in ("No space left", "quota exceeded", "File too large")
        ):
            return DeviceDiskFullError(self.name, remote)
        if any(words in said for words in ("Read-only", "Permission denied", "not permitted")):
            return UnwritableDeviceError(self.name, remote, _last_line(done))
        return RemoteFileError(self.name, remote, _last_line(done))


def _write(file: BinaryIO, chunk: bytes) -> None:
    file.write(chunk)


def _last_line(done: Completed) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"status {done.status}"


class _Ends:
    """The near ends of a channel."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def send(self, data: memoryview) -> int:
        try:
            taken: int = self._channel.send(data)
        except TimeoutError:
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise BrokenPipeError from error
        if not taken:
            raise BrokenPipeError
        return taken

    def end_input(self) -> None:
        try:
            self._channel.shutdown_write()
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise BrokenPipeError from error

    def receive(self) -> bytes:
        chunk: bytes = self._channel.recv(_CHUNK)
        return chunk

    def receive_error(self) -> bytes:
        chunk: bytes = self._channel.recv_stderr(_CHUNK)
        return chunk

    def ended(self) -> bool:
        return bool(self._channel.exit_status_ready())

    def status(self, timeout_s: float) -> int | None:
        """The exit status; None if the channel ended without one, SilenceError if neither comes."""
        if not self._channel.status_event.wait(timeout_s):
            raise SilenceError
        return self._channel.exit_status if self._channel.exit_status >= 0 else None
