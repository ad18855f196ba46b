"""The keys of the emulated boards: who may log in, and whom the user meets there.

They are made once per cache and never leave this machine: anybody who could
read them could read the boards' memory as well.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from edgeq.files import atomic_folder, cache_dir, folder_lock, write_bytes

_KIND = b"ssh-ed25519"
_USER = "id_ed25519"
_HOST = "dropbear_ed25519_host_key"


@dataclass(frozen=True, kw_only=True)
class BoardKeys:
    """The two key pairs. Public halves are lines as in ``authorized_keys``: ``ssh-ed25519 AAAA...``."""

    user_key_path: Path
    user_public: str
    host_private: bytes
    host_public: str


def user_key_path() -> Path:
    """Where the user's private key is; :func:`board_keys` makes it."""
    return _folder() / _USER


def board_keys() -> BoardKeys:
    """The keys of this cache, made by the first call, and made anew if they are damaged."""
    folder = _folder()
    with folder_lock(folder / "making"):
        try:
            return _read_keys(folder)
        except (OSError, ValueError):
            with atomic_folder(folder) as new:
                new.chmod(0o700)
                _make_keys(new)
        return _read_keys(folder)


def dropbear_key(key: Ed25519PrivateKey) -> bytes:
    """A private key as dropbear's ``-r`` reads it: the SSH strings of its kind and of its seed and public point."""
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    point = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _ssh_string(_KIND) + _ssh_string(seed + point)


def _folder() -> Path:
    return cache_dir() / "board-keys"


def _read_keys(folder: Path) -> BoardKeys:
    user = load_ssh_private_key((folder / _USER).read_bytes(), password=None)
    host_private = (folder / _HOST).read_bytes()
    seed = host_private[len(_ssh_string(_KIND)) + 4 :][:32]
    host = Ed25519PrivateKey.from_private_bytes(seed)
    if not isinstance(user, Ed25519PrivateKey) or dropbear_key(host) != host_private:
        raise ValueError("not the keys that were written")
    return BoardKeys(
        user_key_path=folder / _USER,
        user_public=_public_line(user),
        host_private=host_private,
        host_public=_public_line(host),
    )


def _make_keys(folder: Path) -> None:
    user, host = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    private = user.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    write_bytes(folder / _USER, private, mode=0o600)
    write_bytes(folder / _HOST, dropbear_key(host), mode=0o600)


def _public_line(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _ssh_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
