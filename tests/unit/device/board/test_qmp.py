from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.device.board.qmp import Qmp, QmpError
from edgeq.device.board.unix_socket import listen_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Monitor(threading.Thread):
    """The other end: greets, then answers each command with the next of ``answers``."""

    def __init__(self, path: Path, answers: list[bytes]) -> None:
        super().__init__(daemon=True)
        self._listener = listen_on(path)
        self._answers = [b'{"QMP": {}}\n', *answers]
        self.received: list[dict[str, Any]] = []
        self.descriptors: list[int] = []

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with self._listener, connection:
            for answer in self._answers:
                connection.sendall(answer)
                data, extra, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
                if not data:
                    return
                self.received.append(json.loads(data))
                for _, _, content in extra:
                    self.descriptors += array.array("i", content)


@contextlib.contextmanager
def _monitor(tmp_path: Path, *answers: bytes) -> Iterator[tuple[_Monitor, Path]]:
    server = _Monitor(tmp_path / "monitor", list(answers))
    server.start()
    yield server, tmp_path / "monitor"
    server.join(5)


def test_a_command_returns_what_qemu_returns_and_events_are_passed_over(tmp_path: Path) -> None:
    answers = (b'{"return": {}}\n', b'{"event": "STOP"}\n{"return": {"status": "running"}}\n')
    with _monitor(tmp_path, *answers) as (server, path), Qmp(path, timeout_s=5) as monitor:
        assert monitor.execute("query-status") == {"status": "running"}
    assert [command["execute"] for command in server.received] == ["qmp_capabilities", "query-status"]


def test_a_file_goes_along_with_a_command(tmp_path: Path) -> None:
    with _monitor(tmp_path, b'{"return": {}}\n', b'{"return": {}}\n') as (server, path), Qmp(path, timeout_s=5) as qmp:
        inside, outside = os.pipe()
        qmp.execute("getfd", {"fdname": "snapshot"}, fd=outside)
        os.close(outside)
    (received,) = server.descriptors
    os.write(received, b"through")
    os.close(received)
    assert os.read(inside, 100) == b"through"
    os.close(inside)


def test_what_qemu_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    answers = (b'{"return": {}}\n', b'{"error": {"desc": "no such thing"}}\n')
    with (
        _monitor(tmp_path, *answers) as (_, path),
        Qmp(path, timeout_s=5) as monitor,
        pytest.raises(QmpError, match="eject: no such thing"),
    ):
        monitor.execute("eject")


def test_the_end_of_qemu_is_an_error_not_an_answer(tmp_path: Path) -> None:
    with _monitor(tmp_path, b"") as (_, path), pytest.raises(QmpError):
        Qmp(path, timeout_s=0.2)


def test_a_monitor_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QmpError, match="cannot be reached"):
        Qmp(tmp_path / "monitor", timeout_s=5)
