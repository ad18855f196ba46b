"""Files over any way that runs a shell on a device and streams its input and output: ``sh``, ``cat`` and a few more."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, BinaryIO

from edgeq.errors import DeviceDiskFullError, RemoteFileError, UnwritableDeviceError
from edgeq.files import atomic_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from edgeq.device.transport import Completed

_CHUNK = 1 << 18
_FILE_SILENCE_S = 120.0
_EXCEEDED_FILE_SIZE = 128 + signal.SIGXFSZ

_PUT = r"""
LC_ALL=C; export LC_ALL
case $1 in */*) folder=${1%/*}; folder=${folder:-/} ;; *) folder=. ;; esac
temporary=$folder/.${1##*/}.$$.edgeq-tmp
part=$folder/.${1##*/}.part
size() { stat -c %s -- "$1" 2>/dev/null || wc -c < "$1"; }  # wc may read all of it
give_up() { rm -f -- "$temporary"; exit "$1"; }
keep() { mv -f -- "$temporary" "$part"; exit "$1"; }
trap 'keep 10' HUP TERM PIPE
mkdir -p -- "$folder" || exit 11
if [ -d "$1" ]; then echo "is a folder" >&2; exit 12; fi
if [ "$4" -gt 0 ]; then
  mv -f -- "$part" "$temporary" && [ "$(size "$temporary")" -eq "$4" ] ||
    { echo "its beginning is gone" >&2; give_up 15; }
fi
cat >> "$temporary" || give_up $?
[ "$(size "$temporary")" -eq "$2" ] || { echo "arrived incomplete" >&2; keep 13; }
chmod "$3" "$temporary" && mv -f -- "$temporary" "$1" || give_up 14
"""
"""Takes a file from stdin: $1 is its path, $2 its size, $3 its mode, $4 how much of it is there.

What the device refuses (a full disk) is removed, what was cut is kept to go on from.
"""


class ShellTransport(ABC):
    """A :class:`~edgeq.device.transport.Transport` whose programs a shell starts, and whose files go through it."""

    name: str

    def put(self, local: Path, remote: str, *, mode: int = 0o644, start: int = 0) -> None:
        """Stream a file to a temporary name there; it takes its own when size and bytes are complete."""
        with local.open("rb") as file:
            size = local.stat().st_size
            file.seek(start)
            chunks: Iterator[bytes] = iter(lambda: file.read(_CHUNK), b"")
            script = ["sh", "-c", _PUT, "sh", remote, str(size), f"{mode:o}", str(start)]
            done = self._exec(script, stdin=chunks, timeout_s=_FILE_SILENCE_S, doing=f"copying {local.name}")
        if done.status:
            raise self._file_error(remote, done)

    def get(self, remote: str, local: Path) -> None:
        """Stream a file from there; ``local`` appears only when it is whole."""
        with atomic_file(local) as file:
            done = self._exec(
                ["env", "LC_ALL=C", "cat", "--", remote],
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
        command = [*settings, *self._command(argv)]
        return self._exec(command, stdin=stdin, on_stdout=on_stdout, timeout_s=timeout_s, doing=f"{argv[0]} ran")

    @abstractmethod
    def _command(self, argv: Sequence[str]) -> Sequence[str]:
        """What is started so that the program ``argv`` runs."""

    @abstractmethod
    def _exec(
        self,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        timeout_s: float,
        doing: str,
    ) -> Completed:
        """Run a program and wait for it; ``doing`` says in an error what was interrupted."""

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
