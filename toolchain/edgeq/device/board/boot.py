"""Bringing up one board, from nothing or from a snapshot: either it is up, or nothing of it is left."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, TYPE_CHECKING

from edgeq.device.board import qemu
from edgeq.device.board.console import Console, ConsoleClosedError, log_lines, log_tail
from edgeq.device.board.image import USER, Image
from edgeq.device.board.keys import board_keys
from edgeq.device.board.listening import Listening
from edgeq.device.board.qmp import Qmp, QmpError
from edgeq.device.board.registry import RunningBoard, announce, claim, destroy, lives, serial_log
from edgeq.device.board.snapshot import SnapshotError, open_snapshot, save_snapshot
from edgeq.errors import BoardDiedError, BoardTimeoutError
from edgeq.target import Emulation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.progress import Progress

_BOOT_S = 120.0
_RESTORE_S = 30.0
_ANSWER_S = 10.0
_ENDING_S = 2.0
_POLL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A board that is to come up in ``folder``, whose :func:`edgeq.files.folder_lock` the caller holds."""

    folder: Path
    target: str
    emulation: Emulation
    image: Image
    listening: Listening
    ends_with_caller: bool


def boot(plan: Plan, *, snapshot: Path | None, progress: Progress) -> RunningBoard:
    """Boot a board and, unless ``snapshot`` is None, keep its state there for the next one.

    Raises BoardDiedError and BoardTimeoutError. A snapshot that cannot be
    written is told to ``progress`` only: it costs the next start its speed.
    """
    deadline = time.monotonic() + _BOOT_S
    with _all_or_nothing(plan.folder):
        process = _spawn(plan, None)
        with _explained(plan.folder, process, "its first login", _BOOT_S):
            with Console(plan.folder / "console", deadline=deadline) as console:
                console.wait_until_ready()
            with _monitor(plan.folder) as monitor:
                port = qemu.ssh_port(monitor)
                _wait_for_greeting(plan.listening, port, deadline)
                if snapshot is not None:
                    progress.step(f"keeping a snapshot of the emulated board {plan.folder.name}")
                    try:
                        save_snapshot(monitor, snapshot, scratch=plan.folder)
                    except SnapshotError as error:
                        progress.step(f"no snapshot was kept: {error}")
        return _announced(plan, process, port, from_snapshot=False)


def restore(plan: Plan, *, snapshot: Path) -> RunningBoard:
    """Let a board go on from ``snapshot``, with its clock set.

    Raises SnapshotError, BoardDiedError and BoardTimeoutError.
    """
    deadline = time.monotonic() + _RESTORE_S
    with _all_or_nothing(plan.folder):
        with open_snapshot(snapshot) as stream:
            process = _spawn(plan, stream)
            stream.close()
            with _explained(plan.folder, process, "its snapshot", _RESTORE_S), _monitor(plan.folder) as monitor:
                _wait_until_running(monitor, deadline)
                port = qemu.ssh_port(monitor)
        with _explained(plan.folder, process, "its console", _RESTORE_S):
            with Console(plan.folder / "console", deadline=deadline) as console:
                console.set_clock()
            _wait_for_greeting(plan.listening, port, deadline)
        return _announced(plan, process, port, from_snapshot=True)


def answers(board: RunningBoard) -> bool:
    """Whether a board that is up runs, lets this cache's user in, and speaks ssh."""
    if board.host_key != board_keys().host_public:
        return False
    deadline = time.monotonic() + _ANSWER_S
    try:
        with _monitor(board.serial_log.parent) as monitor:
            _wait_until_running(monitor, deadline)
        _wait_for_greeting(board.listening, board.port, deadline)
    except (QmpError, OSError):
        return False
    return True


def post_mortem(board: RunningBoard) -> BoardDiedError | None:
    """Why a board that was up is no more, for whoever lost the connection; None while it lives."""
    folder = board.serial_log.parent
    with contextlib.suppress(QmpError), _monitor(folder) as monitor:
        monitor.execute("query-status")
        return None
    # A process that ends lets go of its connections one by one, and of its lock last.
    deadline = time.monotonic() + _ENDING_S
    while lives(folder):
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_S)
    return _death(folder, "its QEMU is gone")


def _spawn(plan: Plan, snapshot: IO[bytes] | None) -> subprocess.Popen[bytes]:
    with claim(plan.folder) as claimed:
        return qemu.spawn(
            plan.emulation,
            plan.image,
            plan.listening,
            claimed,
            incoming_fd=None if snapshot is None else snapshot.fileno(),
            ends_with_caller=plan.ends_with_caller,
        )


def _announced(plan: Plan, process: subprocess.Popen[bytes], port: int, *, from_snapshot: bool) -> RunningBoard:
    board = RunningBoard(
        name=plan.folder.name,
        target=plan.target,
        emulation=plan.emulation,
        port=port,
        pid=process.pid,
        user=USER,
        host_key=board_keys().host_public,
        started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        from_snapshot=from_snapshot,
        listening=plan.listening,
    )
    announce(board)
    return board


@contextlib.contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    destroy(folder)
    try:
        yield
    except BaseException:
        destroy(folder)
        raise


@contextlib.contextmanager
def _explained(folder: Path, process: subprocess.Popen[bytes], waiting_for: str, seconds: float) -> Iterator[None]:
    """Turn the end of QEMU, or its silence, into an error a user can act on."""
    try:
        yield
    except (ConsoleClosedError, QmpError, ConnectionError, TimeoutError) as error:
        ending = "" if isinstance(error, TimeoutError) else _ending(process)
        if ending:
            raise _death(folder, ending) from error
        raise BoardTimeoutError(
            folder.name, waiting_for=waiting_for, seconds=seconds, log_tail=log_tail(*_logs(folder))
        ) from error


def _death(folder: Path, ending: str) -> BoardDiedError:
    """The error that says why the QEMU of ``folder`` is gone: the guest's last word, QEMU's own, or ``ending``."""
    serial, output = (log_lines(log) for log in _logs(folder))
    panics = [line for line in serial if "Kernel panic" in line]
    cause = next(iter((*panics[:1], *output[-1:])), ending)
    return BoardDiedError(folder.name, cause=cause, log_tail=log_tail(*_logs(folder)))


def _ending(process: subprocess.Popen[bytes]) -> str:
    """How QEMU ended; empty if it lives."""
    try:
        status = process.wait(_ANSWER_S)
    except subprocess.TimeoutExpired:
        return ""
    return f"QEMU was ended by {signal.Signals(-status).name}" if status < 0 else f"QEMU ended with status {status}"


def _logs(folder: Path) -> tuple[Path, Path]:
    return serial_log(folder), folder / qemu.OUTPUT_LOG


def _monitor(folder: Path) -> Qmp:
    return Qmp(folder / "monitor", timeout_s=_ANSWER_S)


def _wait_until_running(monitor: Qmp, deadline: float) -> None:
    while monitor.execute("query-status").get("status") != "running":
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_POLL_S)


def _wait_for_greeting(listening: Listening, port: int, deadline: float) -> None:
    """Read ssh's first bytes: QEMU accepts a connection even where the guest does not."""
    left = max(deadline - time.monotonic(), _POLL_S)
    with socket.create_connection((listening.reached_at, port), timeout=left) as connection:
        if not connection.recv(4):
            raise ConnectionResetError
