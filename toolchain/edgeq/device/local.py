"""This machine as a device, so that a build can be measured where it was made."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.device.conversation import SLICE_S, SilenceError, converse
from edgeq.device.transport import Completed
from edgeq.errors import (
    DeviceDiskFullError,
    DeviceSilentError,
    RemoteFileError,
    UnwritableDeviceError,
)
from edgeq.files import atomic_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Self

_CHUNK = 1 << 18
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


class LocalTransport:
    """Files and programs of this machine; relative paths start at ``root`` (the home folder by default)."""

    def __init__(self, root: Path | None = None, *, name: str = "local") -> None:
        self.name = name
        self._root = root or Path.home()

    def put(self, local: Path, remote: str, *, mode: int = 0o644, start: int = 0) -> None:
        """Copy a file under a temporary name, then rename it."""
        target = self._root / remote
        temporary = target.with_name(f".{target.name}.{os.getpid()}.edgeq-tmp")
        part = target.with_name(f".{target.name}.part")
        with local.open("rb") as source, self._file_errors(remote):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                if start:
                    part.rename(temporary)
                with temporary.open("ab") as file:
                    source.seek(file.tell())
                    shutil.copyfileobj(source, file, _CHUNK)
                temporary.chmod(mode)
                temporary.rename(target)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            except BaseException:  # what interrupts says nothing against the bytes that were copied
                with contextlib.suppress(OSError):
                    temporary.rename(part)
                raise

    def get(self, remote: str, local: Path) -> None:
        """Copy a file; ``local`` appears only when it is whole."""
        try:
            source = (self._root / remote).open("rb")
        except OSError as error:
            raise RemoteFileError(self.name, remote, os.strerror(error.errno or 0)) from error
        with source, atomic_file(local) as file:
            shutil.copyfileobj(source, file, _CHUNK)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Completed:
        """Run a program and wait for it; a program that cannot be started has the status a shell would give."""
        collected = bytearray()
        try:
            process = subprocess.Popen(  # ended and closed by _Pipes
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._root,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            status = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
            return Completed(status=status, stdout=b"", stderr=f"{argv[0]}: {os.strerror(error.errno or 0)}\n".encode())
        with _Pipes(process) as pipes:
            try:
                stderr = converse(pipes, stdin=stdin, on_stdout=on_stdout or collected.extend, timeout_s=timeout_s)
            except SilenceError:
                raise DeviceSilentError(self.name, argv[0], timeout_s) from None
            process.wait()
        return Completed(status=_status(process.returncode), stdout=bytes(collected), stderr=stderr)

    def close(self) -> None:
        """Nothing is held between calls."""

    @contextlib.contextmanager
    def _file_errors(self, remote: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            problem = os.strerror(error.errno or 0)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise DeviceDiskFullError(self.name, remote) from error
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise UnwritableDeviceError(self.name, remote, problem) from error
            raise RemoteFileError(self.name, remote, problem) from error


def _status(returncode: int) -> int:
    """As a shell tells it: 128 + n for the signal n."""
    return 128 - returncode if returncode < 0 else returncode


class _Pipes:
    """The pipes of a child; leaving the block ends the child and everything it started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise AssertionError
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        os.set_blocking(self._stdin.fileno(), False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                pipe.close()

    def send(self, data: memoryview) -> int:
        if not select.select([], [self._stdin], [], SLICE_S)[1]:
            raise TimeoutError
        try:
            return os.write(self._stdin.fileno(), data[:_CHUNK])
        except BlockingIOError:
            raise TimeoutError from None

    def end_input(self) -> None:
        self._stdin.close()

    def receive(self) -> bytes:
        return _read(self._stdout.fileno())

    def receive_error(self) -> bytes:
        return _read(self._stderr.fileno())

    def ended(self) -> bool:
        return self._process.poll() is not None


def _read(descriptor: int) -> bytes:
    if not select.select([descriptor], [], [], SLICE_S)[0]:
        raise TimeoutError
    return os.read(descriptor, _CHUNK)
