from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeq.device.board.unix_socket import connect_to, listen_on

if TYPE_CHECKING:
    from pathlib import Path


def test_a_socket_may_lie_deeper_than_its_address_can_say(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*("a folder of thirty characters " for _ in range(6)))
    folder.mkdir(parents=True)
    with listen_on(folder / "monitor") as listener, connect_to(folder / "monitor", timeout_s=5) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"hello")
            assert server.recv(5) == b"hello"
    assert (folder / "monitor").is_socket()


def test_nobody_at_the_other_end_is_an_error(tmp_path: Path) -> None:
    listen_on(tmp_path / "monitor").close()
    with pytest.raises(ConnectionRefusedError):
        connect_to(tmp_path / "monitor", timeout_s=5)
