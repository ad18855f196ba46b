"""Whose deployments a device takes: the public keys in ``ROOT/trusted``, one a file.

A device without any takes everything. One with a key takes nothing that is
not signed by one, and nothing older than what is active there. The runner
judges, on the device; what can be known before anything is pushed is told
before.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.device.keyring import PUBLIC_SUFFIX, PublicKey, check_key_name
from edgeq.device.manifest import DeviceManifest, read_manifest
from edgeq.errors import (
    ConfigError,
    OlderDeploymentError,
    RemoteFileError,
    UnknownKeyError,
    UnreadableManifestError,
    UnsignedError,
    UntrustedSignerError,
)

if TYPE_CHECKING:
    from edgeq.device.transport import Transport

_FOLDER = "trusted"
_TIMEOUT_S = 60.0
_MARK = "=== "

READ_SCRIPT = r"""
LC_ALL=C; export LC_ALL
cd -- "$1" 2>/dev/null || exit 0
for key in trusted/*.pub; do
  if [ -e "$key" ]; then printf '=== key %s\n%s\n' "${key#trusted/}" "$(head -n 1 -- "$key")"; fi
done
if [ -e trusted ] && ! ls trusted >/dev/null 2>&1; then printf '=== key (not to be read)\n\n'; fi
active=$(head -n 1 -- "current/$2" 2>/dev/null)
case $active in *[!0-9a-f]* | '') exit 0 ;; esac
echo "=== active $active"
if [ -e "deployments/$active/deployment.json" ]; then cat -- "deployments/$active/deployment.json"; fi
exit 0
"""
"""$1 is ROOT, $2 the name of a pointer, or nothing. Says which keys are trusted, what is active, and its manifest."""

_REMOVE_SCRIPT = 'rm -f -- "$1/trusted/$2"'


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The trusted keys by name, each the line of its file; the active deployment's id and, if it has one, manifest.

    ``active_id`` is empty if none is active; ``damaged`` says what is wrong
    with the manifest if it cannot be read.
    """

    keys: dict[str, str]
    active_id: str = ""
    active: DeviceManifest | None = None
    damaged: str = ""

    def not_before(self, *, allow_older: bool) -> int:
        """The lowest serial that may be activated."""
        return 0 if allow_older or self.active is None else self.active.serial


def trusted_folder(root: str) -> str:
    """Where a device keeps the keys that it trusts."""
    return f"{root}/{_FOLDER}"


def read_trust(transport: Transport, root: str, *, pointer: str = "") -> Trust:
    """What a device trusts; with a ``pointer`` also what is active under it."""
    done = transport.run(["/bin/sh", "-c", READ_SCRIPT, "sh", root, pointer], timeout_s=_TIMEOUT_S)
    if done.status:
        problem = done.stderr.decode(errors="replace").strip() or f"status {done.status}"
        raise RemoteFileError(transport.name, root, problem)
    head, _, tail = done.stdout.partition(f"{_MARK}active ".encode())
    first, _, manifest = tail.partition(b"\n")
    active_id = first.decode(errors="replace")
    keys = {}
    for part in head.decode(errors="replace").split(f"{_MARK}key ")[1:]:
        name, _, line = part.partition("\n")
        keys[_printable(name).removesuffix(PUBLIC_SUFFIX)] = _printable(line)
    if not manifest:
        return Trust(keys=keys, active_id=active_id)
    try:
        active = read_manifest(manifest, where=f"deployment.json on {transport.name!r}")
    except ConfigError as error:
        return Trust(keys=keys, active_id=active_id, damaged=error.message)
    return Trust(keys=keys, active_id=active_id, active=active)


def _printable(text: str) -> str:
    """Text of a device without what would move about in a terminal."""
    return "".join(c for c in text if c.isprintable())


def check_trusted(trust: Trust, device: str, *, signer: PublicKey | None, serial: int, allow_older: bool) -> None:
    """Raise what stands against a deployment on a device that trusts keys, as far as the host can tell.

    ``signer`` is None of one that is not signed.
    """
    if not trust.keys:
        return
    if signer is None:
        raise UnsignedError(device, trust.keys)
    if not any(signer.same(line) for line in trust.keys.values()):
        raise UntrustedSignerError(device, signer.name, signer.fingerprint, trust.keys)
    if allow_older:
        return
    if trust.damaged:
        raise UnreadableManifestError(device, trust.damaged)
    if trust.active is not None and serial < trust.active.serial:
        raise OlderDeploymentError(device, serial=serial, active=trust.active.serial)


def trust_key(transport: Transport, root: str, key: PublicKey) -> None:
    """Let a device trust ``key``, under its name."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / (key.name + PUBLIC_SUFFIX)
        local.write_text(key.line + "\n", encoding="utf-8")
        transport.put(local, f"{trusted_folder(root)}/{local.name}")


def distrust_key(transport: Transport, root: str, name: str) -> None:
    """Take a key that is called ``name`` there from those that a device trusts; UnknownKeyError if it has none so."""
    check_key_name(name)
    keys = read_trust(transport, root).keys
    if name not in keys:
        raise UnknownKeyError(name, keys, where=transport.name)
    done = transport.run(["/bin/sh", "-c", _REMOVE_SCRIPT, "sh", root, name + PUBLIC_SUFFIX], timeout_s=_TIMEOUT_S)
    if done.status:
        raise RemoteFileError(transport.name, trusted_folder(root), done.stderr.decode(errors="replace").strip())
