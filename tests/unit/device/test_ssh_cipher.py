from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING

import paramiko
import pytest

from edgeq.device.ssh import SshTransport
from edgeq.device.ssh_cipher import NAME, ChaCha20Poly1305, Wire
from edgeq.device.ssh_connection import Address
from edgeq.errors import KeyRefusedError

if TYPE_CHECKING:
    from pathlib import Path


def _pair() -> tuple[ChaCha20Poly1305, ChaCha20Poly1305]:
    key = os.urandom(64)
    return ChaCha20Poly1305(key), ChaCha20Poly1305(key)


def _sealed(seal: ChaCha20Poly1305, packet: bytes) -> bytes:
    seal.encrypt(b"", packet, struct.pack(">I", len(packet)))
    return seal.sealed


def test_a_packet_is_opened_by_who_has_the_key_and_the_number() -> None:
    seal, unseal = _pair()
    for number in (0, 1, (1 << 32) - 1):
        seal.number = unseal.number = number
        sealed = _sealed(seal, b"packet" * 100)
        assert b"packet" not in sealed
        assert unseal.open_length(sealed[:4]) == struct.pack(">I", 600)
        assert unseal.decrypt(b"", sealed[4:], b"") == b"packet" * 100


@pytest.mark.parametrize("position", [0, 3, 4, 50, -17, -16, -1])
def test_a_changed_bit_anywhere_is_found(position: int) -> None:
    seal, unseal = _pair()
    damaged = bytearray(_sealed(seal, bytes(64)))
    damaged[position] ^= 1
    with pytest.raises(paramiko.SSHException):
        unseal.open_length(bytes(damaged[:4]))
        unseal.decrypt(b"", bytes(damaged[4:]), b"")


def test_a_packet_of_another_number_is_not_opened() -> None:
    seal, unseal = _pair()
    sealed = _sealed(seal, bytes(64))
    unseal.number = 1
    with pytest.raises(paramiko.SSHException):
        unseal.open_length(sealed[:4])
        unseal.decrypt(b"", sealed[4:], b"")


@pytest.mark.parametrize(("strict", "ciphers"), [(True, [NAME]), (False, [NAME, "aes128-ctr"])])
def test_the_cipher_is_left_where_the_server_counts_as_before_2024(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: bool, ciphers: list[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    host_key = paramiko.ECDSAKey.generate()
    used: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as cleanup:
        port = listener.getsockname()[1]
        known = f"[127.0.0.1]:{port} {host_key.get_name()} {host_key.get_base64()}\n"
        (tmp_path / ".ssh" / "known_hosts").write_text(known)

        def answer() -> None:
            for _ in ciphers:
                wire = Wire(listener.accept()[0])
                cleanup.callback(wire.close)
                wire.advertise_strict_kex = strict
                wire.add_server_key(host_key)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    wire.start_server(server=paramiko.ServerInterface())
                used.append(wire.remote_cipher)

        server = threading.Thread(target=answer, daemon=True)
        server.start()
        with pytest.raises(KeyRefusedError):  # it lets nobody in: the cipher is settled before
            SshTransport.connect(Address(name="shelf", host="127.0.0.1", port=port, user="pi"))
        server.join(10)
    assert used == ciphers
