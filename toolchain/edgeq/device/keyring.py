"""The user's signing keys: Ed25519 pairs below ``~/.config/edgeq/keys``.

::

    keys/NAME        the private half, PEM (PKCS 8), for its owner alone
    keys/NAME.pub    the public half, a line as OpenSSH writes it

A private key is read to sign, and never copied, sent, shown or put into a
message. A key may also lie elsewhere, as a CI hands its secrets out.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_public_key,
)

from edgeq.errors import BadKeyFileError, KeyExistsError, KeyNameError, UnknownKeyError
from edgeq.files import disk_errors, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC_SUFFIX = ".pub"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """The half that everybody may see. ``line`` is ``ssh-ed25519 AAAA... NAME``."""

    name: str
    line: str

    @property
    def fingerprint(self) -> str:
        """What ``ssh-keygen -lf`` shows of it: ``SHA256:...``."""
        digest = hashlib.sha256(base64.b64decode(self.line.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def same(self, line: str) -> bool:
        """Whether a line is of the same key, whatever it is called there."""
        return line.split()[:2] == self.line.split()[:2]


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A pair, ready to sign."""

    public: PublicKey
    _private: Ed25519PrivateKey = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        """The signature of RFC 8032: 64 bytes, the same for the same data."""
        return self._private.sign(data)


def keys_dir() -> Path:
    """Where the keys are."""
    return Path.home() / ".config" / "edgeq" / "keys"


def make_key(name: str) -> PublicKey:
    """Make a pair called ``name``; KeyExistsError rather than touch one that is there."""
    check_key_name(name)
    folder = keys_dir()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    private = Ed25519PrivateKey.generate()
    public = _public(name, private.public_key())
    for path in (folder / name, folder / (name + PUBLIC_SUFFIX)):
        if os.path.lexists(path):
            raise KeyExistsError(name, path)
    _write_private(folder / name, name, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_text(folder / (name + PUBLIC_SUFFIX), public.line + "\n")
    return public


def own_keys() -> tuple[PublicKey, ...]:
    """The public halves that are here, by name; files that are no keys are left out."""
    return tuple(_own_keys())


def has_private(name: str) -> bool:
    """Whether the private half of a key is here too."""
    return (keys_dir() / name).is_file()


def public_key(reference: str) -> PublicKey:
    """The public key called ``reference``, or in the file of that path; UnknownKeyError, BadKeyFileError."""
    path = _find(reference, PUBLIC_SUFFIX)
    name = path.name.removesuffix(PUBLIC_SUFFIX)
    check_key_name(name)
    key = _parse_public(path)
    if key is None:
        hint = "it is one line: ssh-ed25519 AAAA..."
        raise BadKeyFileError(path, "is no Ed25519 public key as OpenSSH writes it", hint=hint)
    return _public(name, key)


def signing_key(reference: str) -> SigningKey:
    """The private key called ``reference``, or in the file of that path; UnknownKeyError, BadKeyFileError."""
    path = _find(reference, "")
    try:
        if stat.S_IMODE(path.stat().st_mode) & _OTHERS:
            raise BadKeyFileError(
                path, "can be read or written by others than its owner", hint=f"run: chmod 600 {shlex.quote(str(path))}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise BadKeyFileError(path, f"cannot be read ({error.strerror})", hint="check its owner") from error
    try:
        private: object = load_pem_private_key(data, password=None)
    except TypeError:
        command = f"openssl pkey -in {shlex.quote(str(path))} -out NEW"
        hint = f"edgeq reads keys without one: {command}, and keep NEW to yourself"
        raise BadKeyFileError(path, "is protected by a passphrase", hint=hint) from None
    except (ValueError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise BadKeyFileError(
            path, "is no Ed25519 private key in PEM (PKCS 8)", hint="make one: edgeq keys new NAME"
        ) from None
    return SigningKey(public=_public(path.name, private.public_key()), _private=private)


def check_key_name(name: str) -> None:
    """KeyNameError unless a key can be called so."""
    if not _NAME.fullmatch(name) or name.endswith(PUBLIC_SUFFIX):
        raise KeyNameError(name)


def _find(reference: str, suffix: str) -> Path:
    """The file of a key by its name among the user's, else the file of that path."""
    named = keys_dir() / (reference + suffix)
    if _NAME.fullmatch(reference) and named.is_file():
        return named
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    raise UnknownKeyError(reference, [key.name for key in _own_keys()])


def _own_keys() -> Iterator[PublicKey]:
    for path in sorted(keys_dir().glob("*" + PUBLIC_SUFFIX)):
        name = path.name.removesuffix(PUBLIC_SUFFIX)
        key = _parse_public(path)
        if _NAME.fullmatch(name) and key is not None:
            yield _public(name, key)


def _parse_public(path: Path) -> Ed25519PublicKey | None:
    try:
        key = load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Ed25519PublicKey) else None


def _public(name: str, key: Ed25519PublicKey) -> PublicKey:
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return PublicKey(name=name, line=f"{line} {name}")


def _write_private(path: Path, name: str, pem: bytes) -> None:
    """Write a file that is its owner's alone from the first moment, and never one that is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyExistsError(name, path) from None
    with disk_errors(path), os.fdopen(descriptor, "wb") as file:
        try:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
