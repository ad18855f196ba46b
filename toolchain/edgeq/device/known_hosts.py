"""Which host keys the user has accepted: OpenSSH's known_hosts files (format: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DEFAULT_PORT = 22


@dataclass(frozen=True, kw_only=True)
class KnownKey:
    """A line that speaks of a host: its key as on the wire, and where it stands.

    ``of_port`` is False for a line about the host in general where another
    port was asked for: the same key vouches for it, a different one says
    nothing against it, as another machine may answer there.
    """

    key_type: str
    blob: bytes
    revoked: bool
    of_port: bool = True
    where: str


def known_keys(host: str, port: int, files: Iterable[Path]) -> tuple[KnownKey, ...]:
    """Every key that the files hold for a host.

    A host on another port than 22 is looked up as ``[host]:port``; where no
    line has that, keys of the bare name count too, as in OpenSSH.
    Lines with ``@cert-authority`` are passed over: certificates of hosts
    are not supported, so such a host is unknown.
    """
    files = tuple(files)
    if port == DEFAULT_PORT:
        return tuple(_matching(host, files))
    exact = tuple(_matching(f"[{host}]:{port}", files))
    return exact or tuple(replace(key, of_port=False) for key in _matching(host, files))


def fingerprint(blob: bytes) -> str:
    """The key's fingerprint as ``ssh-keygen -l`` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _matching(name: str, files: Iterable[Path]) -> Iterator[KnownKey]:
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue  # as ssh does: a file that cannot be read vouches for nobody
        for number, line in enumerate(lines, start=1):
            fields = line.split()
            marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
            if len(fields) < 3 or fields[0].startswith("#") or marker == "@cert-authority":  # noqa: PLR2004  # host, type, key
                continue
            if not _names(fields[0], name):
                continue
            try:
                blob = base64.b64decode(fields[2], validate=True)
            except binascii.Error:
                continue
            yield KnownKey(key_type=fields[1], blob=blob, revoked=marker == "@revoked", where=f"{path}:{number}")


def _names(patterns: str, name: str) -> bool:
    """Whether a line's first field speaks of ``name``: hashed, literal, with wildcards, and no ``!`` against it."""
    found = False
    for pattern in patterns.split(","):
        if pattern.startswith("!") and _like(name, pattern[1:]):
            return False
        found = found or (_hashed(name, pattern) if pattern.startswith("|1|") else _like(name, pattern))
    return found


def _like(name: str, pattern: str) -> bool:
    # In known_hosts brackets are part of "[host]:port", never a set of characters.
    return fnmatch.fnmatchcase(name.lower(), pattern.lower().replace("[", "[[]"))


def _hashed(name: str, pattern: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in pattern.removeprefix("|1|").split("|"))
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, name.lower().encode(), hashlib.sha1).digest(), digest)
