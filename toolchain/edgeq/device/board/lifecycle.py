"""Starting and stopping emulated boards: READ FIRST of this package."""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeq.device.board import qemu
from edgeq.device.board.boot import Plan, answers, boot, post_mortem, restore
from edgeq.device.board.image import board_image, rebuilt_image
from edgeq.device.board.listening import Listening
from edgeq.device.board.registry import RunningBoard, announced, board_folder, destroy, sweep
from edgeq.device.board.snapshot import SnapshotError, snapshot_path
from edgeq.errors import BoardDiffersError, BoardNotRunningError, DeviceError
from edgeq.files import folder_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeq.progress import Progress
    from edgeq.target import Emulation, Target


def require(target: Target) -> None:
    """What can be known of a board before it is started: NoEmulationError, MissingToolError."""
    qemu.emulation_of(target)
    qemu.require_programs()


def start(
    target: Target, *, name: str | None = None, listening: Listening | None = None, progress: Progress
) -> RunningBoard:
    """Start the emulated board of ``target``, or return it if it is up; it outlives this process.

    ``name`` is the target's own unless given. The first start of such a
    board boots it and keeps a snapshot, from which later ones begin. Two
    callers at once get the same board.

    A board that is not up listens on this machine's loopback unless
    ``listening`` says where. One that other machines can reach is always
    booted and never kept as a snapshot: boards of one snapshot begin with
    the same random numbers.

    Raises NoEmulationError, BadBoardNameError, MissingToolError,
    BoardDiffersError (a board of that name is another machine),
    BoardDiedError and BoardTimeoutError. After an error, Ctrl-C included,
    neither a process nor a file of the board is left.
    """
    emulation = qemu.emulation_of(target)
    folder = board_folder(name or _default_name(target))
    qemu.require_programs()
    sweep()
    with folder_lock(folder):
        board = announced(folder)
        if board is not None:
            if board.emulation != emulation:
                raise BoardDiffersError(board.name, running=_words(board.emulation), wanted=_words(emulation))
            if listening not in (None, board.listening):
                raise BoardDiffersError(
                    board.name, running=f"one that listens on {board.listening}", wanted=f"one on {listening}"
                )
            if answers(board):
                return board
            progress.step(f"board {board.name} does not answer: starting it anew")
        wanted = listening or Listening()
        return _start_in(folder, target, emulation, listening=wanted, ends_with_caller=False, progress=progress)


@contextlib.contextmanager
def ephemeral(target: Target, *, progress: Progress) -> Iterator[RunningBoard]:
    """A board of ``target`` for as long as the block lasts.

    A board that :func:`start` left running under the target's name is used
    and left alone. Otherwise the block has one of its own, under a name
    that nobody else asks for, so that commands that run side by side cannot
    stop each other's. It ends with the block, with Ctrl-C, and with this
    process however that ends: the kernel kills it when the thread that
    entered the block is gone.

    A DeviceError that leaves the block becomes BoardDiedError if the board
    died of itself. Otherwise raises what :func:`start` raises.
    """
    emulation = qemu.emulation_of(target)
    qemu.require_programs()
    shared = next((board for board in sweep() if board.name == _default_name(target)), None)
    if shared is not None:
        if shared.emulation == emulation and answers(shared):
            progress.step(f"using the running board {shared.name}")
            with _explained_by_death(shared):
                yield shared
            return
        why = "does not answer" if shared.emulation == emulation else f"is another machine, {_words(shared.emulation)}"
        progress.step(f"the running board {shared.name} {why}: starting one for this command")
    folder = board_folder(f"{_default_name(target)}-{secrets.token_hex(4)}")
    with folder_lock(folder):
        board = _start_in(folder, target, emulation, listening=Listening(), ends_with_caller=True, progress=progress)
    try:
        with _explained_by_death(board):
            yield board
    finally:
        with folder_lock(folder):
            destroy(folder)
        qemu.reap()


def stop(name: str) -> None:
    """Stop the board called ``name`` and remove every file of it; BoardNotRunningError if there is none."""
    folder = board_folder(name)
    with folder_lock(folder):
        if announced(folder) is not None:
            destroy(folder)
            qemu.reap()
            return
    raise BoardNotRunningError(name, (board.name for board in sweep()))


def running() -> tuple[RunningBoard, ...]:
    """The boards that are up, by name. What dead ones left behind is removed."""
    return sweep()


def logs(name: str) -> Path:
    """The file with the console of the running board called ``name``; BoardNotRunningError if there is none."""
    boards = {board.name: board for board in sweep()}
    if name not in boards:
        raise BoardNotRunningError(name, boards)
    return boards[name].serial_log


@contextlib.contextmanager
def _explained_by_death(board: RunningBoard) -> Iterator[None]:
    try:
        yield
    except DeviceError as error:
        death = post_mortem(board)
        if death is None:
            raise
        raise death from error


def _start_in(  # noqa: PLR0913  # what to start, and where
    folder: Path,
    target: Target,
    emulation: Emulation,
    *,
    listening: Listening,
    ends_with_caller: bool,
    progress: Progress,
) -> RunningBoard:
    """Start a board in ``folder``, whose lock the caller holds, from a snapshot where there is one that works."""
    image = board_image(emulation.system, progress=progress)
    snapshot = snapshot_path(qemu.fingerprint(emulation, image)) if listening.reachable_from_here_only else None
    plan = Plan(
        folder=folder,
        target=target.name,
        emulation=emulation,
        image=image,
        listening=listening,
        ends_with_caller=ends_with_caller,
    )
    if snapshot is not None and snapshot.is_file():
        progress.step(f"starting the emulated board {folder.name} from its snapshot")
        try:
            return restore(plan, snapshot=snapshot)
        except (DeviceError, SnapshotError) as error:
            snapshot.unlink(missing_ok=True)
            progress.step(f"the snapshot is of no use ({error}): booting instead")
    if not image.is_intact():
        progress.step("the image of the emulated board is damaged")
        plan = replace(plan, image=rebuilt_image(image, emulation.system, progress=progress))
    progress.step(f"booting the emulated board {folder.name}")
    return boot(plan, snapshot=snapshot, progress=progress)


def _default_name(target: Target) -> str:
    """The target's name, as far as it can be a board's: a user's own file may be called anything."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", target.name).lstrip("._-")[:40] or "board"


def _words(emulation: Emulation) -> str:
    return f"{emulation.cpu} with {emulation.ram_mib} MiB and {emulation.system}"
