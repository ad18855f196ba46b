"""Snapshots: a board that has booted, so that the next one need not.

A snapshot is QEMU's migration stream, compressed by zstd (which adds a
checksum). It loads into the same build of QEMU with the same machine only;
:func:`edgeq.device.board.qemu.fingerprint` names all that. Boards of one
snapshot begin with the same memory, random numbers included, and are
reachable from this machine only; one that listens to others is booted.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import IO, TYPE_CHECKING, cast

from edgeq.device.board.qmp import QmpError
from edgeq.files import cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeq.device.board.qmp import Qmp

_POLL_S = 0.01
_TIMEOUT_S = 60.0
_NO_LIMIT = 1 << 40  # bytes per second


class SnapshotError(Exception):
    """A snapshot could not be written or read."""


def snapshot_path(fingerprint: str) -> Path:
    """Where the snapshot of such a machine is, or would be."""
    return cache_dir() / "board-snapshots" / f"{fingerprint[:32]}.zst"


def save_snapshot(monitor: Qmp, path: Path, *, scratch: Path) -> None:
    """Write the state of a running board to ``path``; it runs on afterwards, whatever happens.

    ``scratch`` is a folder on the same disk for the unfinished file.
    """
    part = scratch / "snapshot.part"
    try:
        _compress(monitor, part)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # a board's memory holds its keys
        part.replace(path)
    except (QmpError, OSError, subprocess.TimeoutExpired) as error:
        raise SnapshotError(str(error)) from error
    finally:
        part.unlink(missing_ok=True)
        with contextlib.suppress(QmpError):
            monitor.execute("cont")


@contextlib.contextmanager
def open_snapshot(path: Path) -> Iterator[IO[bytes]]:
    """The unpacked snapshot, for QEMU to inherit and read; the block lasts until QEMU has read it.

    The block closes its own copy once QEMU has one. SnapshotError at its
    end says that the file was damaged: zstd tells only then.
    """
    if path.stat().st_size == 0:
        # A power cut leaves this; zstd takes it for an archive of nothing, and QEMU waits for something.
        raise SnapshotError("it is empty")
    with subprocess.Popen(("zstd", "-dcq", str(path)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as zstd:
        try:
            yield cast("IO[bytes]", zstd.stdout)
            status = zstd.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise SnapshotError("QEMU did not read it to its end") from None
        finally:
            zstd.kill()
    if status:
        raise SnapshotError("it is damaged")


def _compress(monitor: Qmp, to: Path) -> None:
    with subprocess.Popen(
        ("zstd", "-1", "-q", "-f", "-o", str(to)), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as zstd:
        failure: SnapshotError | None = None
        try:
            try:
                _migrate(monitor, cast("IO[bytes]", zstd.stdin))
            except SnapshotError as error:
                failure = error
            status = zstd.wait(_TIMEOUT_S)
        finally:
            zstd.kill()
        complaint = cast("IO[bytes]", zstd.stderr).read().decode(errors="replace").strip()
    if failure or status:
        # QEMU knows only that somebody did not take its bytes; zstd knows why.
        raise SnapshotError(complaint or str(failure or f"zstd ended with status {status}"))


def _migrate(monitor: Qmp, to: IO[bytes]) -> None:
    with to:
        monitor.execute("getfd", {"fdname": "snapshot"}, fd=to.fileno())
    monitor.execute("migrate-set-parameters", {"max-bandwidth": _NO_LIMIT})
    monitor.execute("migrate", {"uri": "fd:snapshot"})
    deadline = time.monotonic() + _TIMEOUT_S
    while (status := monitor.execute("query-migrate").get("status")) != "completed":
        if status in ("failed", "cancelled"):
            raise SnapshotError(f"QEMU's migration {status}")
        if time.monotonic() > deadline:
            monitor.execute("migrate_cancel")
            raise SnapshotError(f"QEMU did not finish within {_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)
