"""Writing so that nothing is ever half-written, and where the cache is."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgeq.errors import DiskFullError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20


def cache_dir() -> Path:
    """The folder of everything that can be made again (``EDGEQ_CACHE``, else ``~/.cache/edgeq``)."""
    configured = os.environ.get("EDGEQ_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "edgeq"


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" while writing below ``path`` into an error a user can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(path) from error
        raise


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: int = 0o644, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that becomes ``path`` only when the block succeeds.

    The bytes are flushed to the disk before the rename, so that a crash
    leaves either the old file or the new one. Without ``durable`` they are
    not, which is faster: a killed process still leaves one of the two, a
    power cut may leave a damaged file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode)
                if durable:
                    os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_file(path, mode=mode) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically."""
    write_bytes(path, text.encode())


def append_line(path: Path, line: str) -> None:
    """Append one line in a single write, so that a reader never sees half of it from a finished call.

    A line that a crash cut short earlier is ended first: its reader skips
    it, and the new one stays whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(path), path.open("ab+") as file:
        start = file.seek(0, os.SEEK_END)
        torn = False
        if start:
            file.seek(start - 1)
            torn = file.read(1) != b"\n"
        try:
            file.write((b"\n" if torn else b"") + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, start)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder beside ``path`` that takes its place only when the block succeeds.

    An older folder at ``path`` is kept until the new one stands, and is
    restored by the next call if a crash came between the two renames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.with_name(f".{path.name}.old")
    with folder_lock(path):
        if old.exists() and not path.exists():
            old.rename(path)
        for leftover in path.parent.glob(f".{path.name}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with disk_errors(path):
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.new-", dir=path.parent))
            temporary.chmod(0o755)
            try:
                yield temporary
                shutil.rmtree(old, ignore_errors=True)
                if path.exists():
                    path.rename(old)
                temporary.rename(path)
                shutil.rmtree(old, ignore_errors=True)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise


@contextlib.contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock named after ``path`` while the block runs; a second process waits."""
    with _lock_file(path).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def try_folder_lock(path: Path) -> Iterator[bool]:
    """The lock of :func:`folder_lock` without waiting; the block is told whether it holds it."""
    with _lock_file(path).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _lock_file(path: Path) -> Path:
    locks = cache_dir() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return locks / hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
