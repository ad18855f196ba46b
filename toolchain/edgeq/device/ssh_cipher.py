"""The cipher that ``ssh`` prefers, which paramiko lacks: chacha20-poly1305@openssh.com.

A board without AES instructions (a Raspberry Pi up to 4, any emulated one)
takes twice as long for AES as for ChaCha20; with it, a push is as fast as
one by ``scp``. The construction is that of OpenSSH's
``PROTOCOL.chacha20poly1305``: one key for the length of a packet, one for
the rest, the packet's number as the nonce, a tag over all of it.
"""

from __future__ import annotations

import struct
import threading
from typing import Any

import paramiko
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.poly1305 import Poly1305

NAME = "chacha20-poly1305@openssh.com"

_KEY, _BLOCK, _TAG, _LENGTH = 32, 64, 16, 4
_LONGEST = 1 << 18
"""The longest packet that OpenSSH takes or sends, in bytes."""


class ChaCha20Poly1305:
    """Seals or opens packets; ``number`` is that of the next one.

    To paramiko it looks like AES-GCM, whose packets show their length: see
    :class:`_Packetizer` for how the length is hidden all the same.
    """

    def __init__(self, key: bytes) -> None:
        self.number = 0
        self.sealed = b""
        self._key, self._length_key = key[:_KEY], key[_KEY:]
        self._sealed_length = b""

    def encrypt(self, _iv: bytes, packet: bytes, length: bytes) -> bytes:
        """Seal a packet; ``sealed`` is all of it, the result what follows the length."""
        stream = self._stream(self._key, bytes(_BLOCK) + packet)  # the first block makes the key of the tag
        hidden = self._stream(self._length_key, length) + stream[_BLOCK:]
        self.sealed = hidden + Poly1305.generate_tag(stream[:_KEY], hidden)
        return self.sealed[_LENGTH:]

    def open_length(self, hidden: bytes) -> bytes:
        """The length of the next packet, which nothing vouches for yet."""
        self._sealed_length = hidden
        length = self._stream(self._length_key, hidden)
        if struct.unpack(">I", length)[0] > _LONGEST:
            raise paramiko.SSHException("a packet is too long, or damaged")
        return length

    def decrypt(self, _iv: bytes, packet: bytes, _length: bytes) -> bytes:
        """Open what follows the length that was opened last; SSHException unless the tag is right."""
        hidden, tag = packet[:-_TAG], packet[-_TAG:]
        stream = self._stream(self._key, bytes(_BLOCK) + hidden)
        try:
            Poly1305.verify_tag(stream[:_KEY], self._sealed_length + hidden, tag)
        except InvalidSignature as error:
            raise paramiko.SSHException("Mismatched MAC") from error
        return stream[_BLOCK:]

    def _stream(self, key: bytes, data: bytes) -> bytes:
        nonce = struct.pack("<Q", 0) + struct.pack(">Q", self.number)  # the counter of blocks, then the nonce
        return Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor().update(data)


class _Packetizer(paramiko.packet.Packetizer):  # type: ignore[misc]  # paramiko has no types
    """Numbers packets for :class:`ChaCha20Poly1305`, and lets it hide their lengths."""

    def __init__(self, sock: Any) -> None:  # noqa: ANN401  # a socket, or what stands for one
        super().__init__(sock)
        self._one_at_a_time = threading.Lock()
        self._sent = self._received = 0
        self._seal: ChaCha20Poly1305 | None = None
        self._unseal: ChaCha20Poly1305 | None = None
        self._at_length = False

    def set_outbound_cipher(self, block_engine: object, *args: object, **kwargs: object) -> None:
        super().set_outbound_cipher(block_engine, *args, **kwargs)
        self._seal = block_engine if isinstance(block_engine, ChaCha20Poly1305) else None

    def set_inbound_cipher(self, block_engine: object, *args: object, **kwargs: object) -> None:
        super().set_inbound_cipher(block_engine, *args, **kwargs)
        self._unseal = block_engine if isinstance(block_engine, ChaCha20Poly1305) else None

    def reset_seqno_out(self) -> None:
        super().reset_seqno_out()
        self._sent = 0

    def reset_seqno_in(self) -> None:
        super().reset_seqno_in()
        self._received = 0

    def send_message(self, data: paramiko.Message) -> None:
        with self._one_at_a_time:
            if self._seal is not None:
                self._seal.number = self._sent
            super().send_message(data)
            self._sent = (self._sent + 1) & 0xFFFFFFFF

    def write_all(self, out: bytes) -> None:
        if self._seal is not None and self._seal.sealed:
            out, self._seal.sealed = self._seal.sealed, b""
        super().write_all(out)

    def read_message(self) -> tuple[int, paramiko.Message]:
        if self._unseal is not None:
            self._unseal.number = self._received
        self._at_length = self._unseal is not None
        command, message = super().read_message()
        self._received = (self._received + 1) & 0xFFFFFFFF
        return command, message

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002  # as in paramiko
        data: bytes = super().read_all(n, check_rekey)
        if self._at_length and self._unseal is not None:
            self._at_length = False
            data = self._unseal.open_length(data[:_LENGTH]) + data[_LENGTH:]
        return data


class Wire(paramiko.Transport):  # type: ignore[misc]  # as above
    """paramiko's connection, which also speaks :data:`NAME` and prefers it, as ``ssh`` does."""

    _cipher_info = {  # noqa: RUF012  # as in paramiko
        **paramiko.Transport._cipher_info,  # noqa: SLF001  # it has no other way to add one
        NAME: {"class": ChaCha20Poly1305, "block-size": 8, "iv-size": 0, "key-size": 2 * _KEY, "is_aead": True},
    }
    _preferred_ciphers = (NAME, *paramiko.Transport._preferred_ciphers)  # noqa: SLF001  # as above

    def __init__(self, sock: Any) -> None:  # noqa: ANN401  # a socket, or what stands for one
        super().__init__(sock, packetizer_class=_Packetizer)

    def is_exposed(self) -> bool:
        """Whether somebody between could have dropped packets unseen (CVE-2023-48795): never with another cipher."""
        return NAME in (self.local_cipher, self.remote_cipher) and not self.agreed_on_strict_kex
