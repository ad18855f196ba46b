from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from edgeq.device.board.console import Console, ConsoleClosedError, log_tail
from edgeq.device.board.unix_socket import listen_on

if TYPE_CHECKING:
    from pathlib import Path


def _board(path: Path, *sayings: bytes, hear: int = 0, then_hang: bool = False) -> list[bytes]:
    """A board that hears so many bytes, says those things and ends; returns what it will have heard."""
    listener = listen_on(path)
    heard: list[bytes] = []

    def run() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            if hear:
                heard.append(connection.recv(hear))
            for saying in sayings:
                connection.sendall(saying)
                time.sleep(0.01)
            if then_hang:
                connection.recv(1)

    threading.Thread(target=run, daemon=True).start()
    return heard


def _soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def test_a_board_is_ready_when_it_says_so_even_in_pieces(tmp_path: Path) -> None:
    _board(tmp_path / "console", b"[ 0.1] noise\r\nedgeq: re", b"ady\r\n")
    with Console(tmp_path / "console", deadline=_soon()) as console:
        console.wait_until_ready()


def test_the_clock_is_sent_in_seconds_and_must_be_confirmed(tmp_path: Path) -> None:
    heard = _board(tmp_path / "console", b"edgeq: clock set\r\n", hear=100)
    with Console(tmp_path / "console", deadline=_soon()) as console:
        console.set_clock()
    word, seconds = heard[0].split()
    assert word == b"clock"
    assert abs(int(seconds) - time.time()) < 5


def test_a_board_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    _board(tmp_path / "console", b"Kernel panic\r\n")
    with Console(tmp_path / "console", deadline=_soon(60)) as console, pytest.raises(ConsoleClosedError):
        console.wait_until_ready()


def test_a_board_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    _board(tmp_path / "console", b"still booting\r\n", then_hang=True)
    with Console(tmp_path / "console", deadline=_soon(0.1)) as console, pytest.raises(TimeoutError):
        console.wait_until_ready()


def test_the_tail_of_the_logs_holds_last_words_without_empty_lines(tmp_path: Path) -> None:
    (tmp_path / "serial.log").write_bytes(b"".join(b"line %d\r\n\r\n" % number for number in range(40)))
    (tmp_path / "qemu.log").write_bytes(b"bad \xff byte\n")
    lines = log_tail(tmp_path / "serial.log", tmp_path / "qemu.log", tmp_path / "missing").splitlines()
    assert lines[0] == "line 25"
    assert lines[-2:] == ["line 39", "bad \N{REPLACEMENT CHARACTER} byte"]
