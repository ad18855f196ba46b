from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeq.device.board.keys import board_keys, dropbear_key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))


def test_the_host_key_is_in_the_form_of_dropbear() -> None:
    # The seed and its point are the first test of RFC 8032, section 7.1.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    point = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    written = dropbear_key(Ed25519PrivateKey.from_private_bytes(seed))
    assert written == b"\0\0\0\x0bssh-ed25519" + struct.pack(">I", 64) + seed + point


def test_the_user_key_is_one_that_ssh_takes_and_nobody_else_can_read() -> None:
    keys = board_keys()
    assert stat.S_IMODE(keys.user_key_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.user_key_path.parent.stat().st_mode) == 0o700
    read = paramiko.Ed25519Key.from_private_key_file(str(keys.user_key_path))
    assert keys.user_public == f"ssh-ed25519 {read.get_base64()}"


def test_keys_are_made_once() -> None:
    assert board_keys() == board_keys()


@pytest.mark.parametrize("content", [b"", b"not a key", b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + bytes(64)])
@pytest.mark.parametrize("name", ["id_ed25519", "dropbear_ed25519_host_key"])
def test_damaged_keys_are_made_anew(name: str, content: bytes) -> None:
    old = board_keys()
    (old.user_key_path.parent / name).write_bytes(content)
    new = board_keys()
    assert new.user_public != old.user_public
    assert new.host_public != old.host_public
    assert board_keys() == new
