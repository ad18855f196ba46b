"""Which boards there are, and what dead ones left behind.

Each board has a folder in the cache::

    boards/NAME/lock        held by QEMU for as long as it lives; its content is the board's marker
    boards/NAME/board.json  written last, once the board is up
    boards/NAME/serial.log  the console          boards/NAME/qemu.log  what QEMU itself said
    boards/NAME/console, monitor                 unix sockets

QEMU inherits the lock, so the kernel itself says whether a board lives: no
process number can be mistaken for another's after it was given out anew. The
marker is random and stands on QEMU's command line, so that a signal reaches
that QEMU only. Whoever starts or stops a board holds the lock that
:func:`edgeq.files.folder_lock` names after the folder; a board that lives
without a board.json while nobody holds that one lost its edgeq while it
started.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import select
import shutil
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgeq.device.board.keys import user_key_path
from edgeq.device.board.listening import Listening
from edgeq.device.board.qmp import Qmp, QmpError
from edgeq.device.board.unix_socket import listen_on
from edgeq.errors import BadBoardNameError, BoardUnstoppableError, ConfigError
from edgeq.files import cache_dir, disk_errors, try_folder_lock, write_text
from edgeq.schema import from_json, to_json
from edgeq.target import Emulation

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKER = r"edgeq-board-[0-9a-f]{32}"
_POLL_S = 0.01
_PATIENCE_S = 3.0
"""How long each way of stopping QEMU is given before the next, harder one."""


@dataclass(frozen=True, kw_only=True)
class RunningBoard:
    """An emulated board that is up.

    ``port`` of ``host`` leads to its ssh; ``host_key`` is the public key it
    shows there (``ssh-ed25519 AAAA...``). ``listening`` is what was asked
    for, so its port may be 0.
    """

    name: str
    target: str
    emulation: Emulation
    port: int
    pid: int
    user: str
    host_key: str
    started_at: str
    from_snapshot: bool
    listening: Listening = field(default_factory=Listening)

    @property
    def host(self) -> str:
        """The address to connect to from this machine."""
        return self.listening.reached_at

    @property
    def key_path(self) -> Path:
        """The private key that ``user`` (and root) logs in with."""
        return user_key_path()

    @property
    def serial_log(self) -> Path:
        """What the board said on its console."""
        return serial_log(board_folder(self.name))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A folder that was made for a new QEMU, and what it will inherit."""

    folder: Path
    marker: str
    lock: BinaryIO
    console: socket.socket
    monitor: socket.socket


def boards_folder() -> Path:
    """The folder of all boards' folders."""
    return cache_dir() / "boards"


def board_folder(name: str) -> Path:
    """The folder of the board called ``name``; BadBoardNameError if no board can be called so."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise BadBoardNameError(name)
    return boards_folder() / name


def serial_log(folder: Path) -> Path:
    """The log of the console of the board in ``folder``."""
    return folder / "serial.log"


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[Claim]:
    """Make the folder of a new board; what was there must have been removed before.

    The caller holds the folder's :func:`edgeq.files.folder_lock`. When the
    block ends, this process lets go of what QEMU inherited.
    """
    with disk_errors(folder), contextlib.ExitStack() as stack:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        lock = stack.enter_context((folder / "lock").open("wb"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        marker = f"edgeq-board-{secrets.token_hex(16)}"
        lock.write(marker.encode())
        lock.flush()
        console = stack.enter_context(listen_on(folder / "console"))
        monitor = stack.enter_context(listen_on(folder / "monitor"))
        yield Claim(folder=folder, marker=marker, lock=lock, console=console, monitor=monitor)


def announce(board: RunningBoard) -> None:
    """Write down that a board is up."""
    write_text(board_folder(board.name) / "board.json", to_json(board))


def announced(folder: Path) -> RunningBoard | None:
    """The board that lives in ``folder``, or None: there is none, or it is not up yet."""
    if not lives(folder):
        return None
    path = folder / "board.json"
    try:
        return from_json(RunningBoard, path.read_bytes(), where=str(path))
    except (FileNotFoundError, ConfigError):
        return None


def sweep() -> tuple[RunningBoard, ...]:
    """Remove what dead boards and dead edgeq processes left; the boards that are up, by name.

    A board that another process is starting or stopping right now is left
    alone and not among them.
    """
    found = []
    for folder in sorted(boards_folder().glob("*")):
        board = announced(folder)
        if board is None:
            with try_folder_lock(folder) as mine:
                if mine:
                    board = announced(folder)
                    if board is None:
                        destroy(folder)
        if board is not None:
            found.append(board)
    return tuple(found)


def lives(folder: Path) -> bool:
    """Whether a QEMU, or an edgeq that is about to start one, holds the lock of ``folder``."""
    try:
        with (folder / "lock").open("rb") as file:
            # Shared, so that two who look at once do not take each other for the board.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    return False


def destroy(folder: Path) -> None:
    """Stop the QEMU of ``folder``, if it lives, and remove the folder.

    The caller holds the folder's :func:`edgeq.files.folder_lock`. First a
    word over the monitor, then SIGTERM, then SIGKILL. Raises
    BoardUnstoppableError when nothing helps.
    """
    if lives(folder):
        marker = (folder / "lock").read_text()
        with contextlib.ExitStack() as stack:
            found = stack.enter_context(processes_with(marker))
            with contextlib.suppress(QmpError), Qmp(folder / "monitor", timeout_s=1.0) as monitor:
                monitor.execute("quit")
            for number in (signal.SIGTERM, signal.SIGKILL):
                if _ends(folder, found):
                    break
                # An edgeq that was killed may have left a QEMU that was not quite started before.
                found = stack.enter_context(processes_with(marker))
                for process in found:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(process, number)
            if not _ends(folder, found):
                raise BoardUnstoppableError(folder.name)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def processes_with(marker: str, *, processes: Path = Path("/proc")) -> Iterator[tuple[int, ...]]:
    """Descriptors of the processes that have ``marker`` among their arguments.

    A descriptor stays that very process's; its number may be another's soon.
    """
    found: list[int] = []
    try:
        if re.fullmatch(_MARKER, marker):
            for entry in processes.glob("[0-9]*"):
                process = _open_process(entry, marker)
                if process is not None:
                    found.append(process)
        yield tuple(found)
    finally:
        for process in found:
            os.close(process)


def _open_process(entry: Path, marker: str) -> int | None:
    """A descriptor of the process that ``entry`` of /proc is about, if it is there and has the marker."""
    try:
        process = os.pidfd_open(int(entry.name))
    except OSError:
        return None
    # What is read after the descriptor was opened belongs to the same process.
    with contextlib.suppress(OSError):
        if marker.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
            return process
    os.close(process)
    return None


def _ends(folder: Path, processes: tuple[int, ...]) -> bool:
    """Whether the board of ``folder`` lets go of its lock, and those processes end, within the patience."""
    ended = select.poll()
    for process in processes:
        ended.register(process, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE_S
    while lives(folder) or len(ended.poll(0)) < len(processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
