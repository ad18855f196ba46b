from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgeq.device.board import registry
from edgeq.device.board.registry import (
    Claim,
    RunningBoard,
    announce,
    board_folder,
    boards_folder,
    claim,
    destroy,
    lives,
    processes_with,
    sweep,
)
from edgeq.errors import BadBoardNameError, BoardUnstoppableError
from edgeq.files import folder_lock
from edgeq.target import Emulation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MARKER = "edgeq-board-" + "0" * 32


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "_PATIENCE_S", 0.3)


def _board(name: str) -> RunningBoard:
    return RunningBoard(
        name=name,
        target="rpi4",
        emulation=Emulation(cpu="cortex-a72"),
        port=2222,
        pid=1,
        user="edgeq",
        host_key="ssh-ed25519 AAAA",
        started_at="2026-11-21T01:00:00+00:00",
        from_snapshot=False,
    )


@contextlib.contextmanager
def _sleeper(claimed: Claim) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock and has the marker among its arguments, as QEMU does."""
    program = "import sys, time; print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        (sys.executable, "-c", program, claimed.marker), pass_fds=(claimed.lock.fileno(),), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_board_that_is_up_is_listed() -> None:
    with claim(board_folder("rpi4")):
        announce(_board("rpi4"))
        assert sweep() == (_board("rpi4"),)


def test_boards_are_listed_by_name() -> None:
    with claim(board_folder("b")), claim(board_folder("a")):
        announce(_board("b"))
        announce(_board("a"))
        assert [board.name for board in sweep()] == ["a", "b"]


def test_what_a_dead_board_left_is_removed() -> None:
    with claim(board_folder("rpi4")):
        announce(_board("rpi4"))
    assert sweep() == ()
    assert list(boards_folder().iterdir()) == []


def test_a_folder_in_which_nothing_was_started_is_removed() -> None:
    board_folder("rpi4").mkdir(parents=True)
    (board_folder("rpi4") / "lock").touch()
    sweep()
    assert not board_folder("rpi4").exists()


def test_a_board_that_another_process_is_starting_is_left_alone_and_not_listed() -> None:
    folder = board_folder("rpi4")
    with folder_lock(folder), claim(folder):
        assert sweep() == ()
        assert lives(folder)


def test_a_board_whose_starter_was_killed_is_found_and_stopped() -> None:
    folder = board_folder("rpi4")
    with contextlib.ExitStack() as stack:
        with claim(folder) as claimed:
            process = stack.enter_context(_sleeper(claimed))
        assert lives(folder)
        assert sweep() == ()
        assert process.wait(5) == -15
        assert not folder.exists()


def test_a_board_json_that_is_damaged_counts_as_a_board_that_never_came_up() -> None:
    with contextlib.ExitStack() as stack:
        with claim(board_folder("rpi4")) as claimed:
            process = stack.enter_context(_sleeper(claimed))
        announce(_board("rpi4"))
        (board_folder("rpi4") / "board.json").write_text('{"name": "rp')
        assert sweep() == ()
        assert process.wait(5) == -15


def test_a_board_that_nothing_can_stop_is_an_error_and_keeps_its_folder() -> None:
    # The lock is held by this very process, which has no marker and so gets no signal.
    with claim(board_folder("rpi4")), pytest.raises(BoardUnstoppableError):
        destroy(board_folder("rpi4"))
    assert board_folder("rpi4").exists()


def test_only_a_process_with_the_marker_itself_is_found(tmp_path: Path) -> None:
    entry = tmp_path / str(os.getpid())
    entry.mkdir()
    (tmp_path / "self").mkdir()
    (tmp_path / "4194999").mkdir()
    for arguments, expected in (
        (("qemu", "-name", _MARKER), 1),
        (("vi", f"notes about {_MARKER}"), 0),
        (("",), 0),
    ):
        (entry / "cmdline").write_bytes("\0".join(arguments).encode() + b"\0")
        with processes_with(_MARKER, processes=tmp_path) as found:
            assert len(found) == expected


@pytest.mark.parametrize("marker", ["", "edgeq-board-", "qemu", "edgeq-board-" + "0" * 31])
def test_a_damaged_marker_finds_no_process(tmp_path: Path, marker: str) -> None:
    entry = tmp_path / str(os.getpid())
    entry.mkdir()
    (entry / "cmdline").write_bytes(marker.encode() + b"\0")
    with processes_with(marker, processes=tmp_path) as found:
        assert found == ()


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", "-x", "a b", "x" * 65, "board\n"])
def test_a_name_that_is_no_folder_s_is_refused(name: str) -> None:
    with pytest.raises(BadBoardNameError):
        board_folder(name)
