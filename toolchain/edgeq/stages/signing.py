"""Signing a deployment, and what a device that trusts keys asks of it: before the push, and before it is activated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq import runner
from edgeq.device.keyring import SigningKey
from edgeq.device.manifest import (
    MANIFEST_NAME,
    SIGNATURE_NAME,
    DeployedFile,
    DeviceManifest,
    manifest_bytes,
    serial_of,
)
from edgeq.device.trust import Trust, check_trusted, read_trust, trusted_folder
from edgeq.errors import RunnerFailedError
from edgeq.files import write_bytes
from edgeq.records import Manifest, Signed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeq.device.store import Store
    from edgeq.device.transport import Transport
    from edgeq.records import Deployment

_VERIFY_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What a device trusts, and what one deployment has to show for it; ``key`` is None of one that is not signed."""

    build: Manifest
    trust: Trust
    root: str
    key: SigningKey | None
    serial: int
    allow_older: bool

    @property
    def signed(self) -> Signed | None:
        """What the record says of it."""
        if self.key is None:
            return None
        public = self.key.public
        verified = bool(self.trust.keys)
        return Signed(key=public.name, fingerprint=public.fingerprint, serial=self.serial, verified=verified)

    def write(self, folder: Path, identity: str, target: str, files: Mapping[str, DeployedFile]) -> dict[str, Path]:
        """Write the manifest of these files and its signature into ``folder``; nothing for one that is not signed.

        UnsafeNameError if a name could lead out of the deployment's folder.
        """
        if self.key is None:
            return {}
        text = manifest_bytes(
            DeviceManifest(id=identity, model=self.build.model, target=target, serial=self.serial, files=dict(files))
        )
        contents = {MANIFEST_NAME: text, SIGNATURE_NAME: self.key.sign(text)}
        for name, content in contents.items():
            write_bytes(folder / name, content)
        return {name: folder / name for name in contents}

    def was_proven(self, before: Deployment) -> bool:
        """Whether the runner there had nothing against that deployment, if the device trusts keys at all."""
        return not self.trust.keys or (before.signed is not None and before.signed.verified)

    def verify(self, transport: Transport, deployment: Deployment, executable: str) -> None:
        """Let the runner on the device judge the deployment there, if a key is trusted there.

        RunnerFailedError says what it found.
        """
        if self.trust.keys:
            said = runner.verify(
                transport,
                folder=deployment.root,
                executable=executable,
                trusted=trusted_folder(self.root),
                not_before=self.trust.not_before(allow_older=self.allow_older),
                timeout_s=_VERIFY_TIMEOUT_S,
            )
            if said.id != deployment.id:
                raise RunnerFailedError(transport.name, "tampered", f"{deployment.root} holds the deployment {said.id}")


def admit(  # noqa: PLR0913  # a deployment, a device and what was said of both
    build: Manifest,
    transport: Transport,
    store: Store,
    *,
    pointer: str,
    device: str,
    key: SigningKey | None,
    allow_older: bool,
) -> Admission:
    """Ask a device what it trusts, and raise what stands against the deployment before anything is pushed.

    UnsignedError, UntrustedSignerError, OlderDeploymentError, UnreadableManifestError.
    """
    trust = read_trust(transport, store.root, pointer=pointer)
    serial = serial_of(build.created_at)
    check_trusted(trust, device, signer=key.public if key else None, serial=serial, allow_older=allow_older)
    return Admission(build=build, trust=trust, root=store.root, key=key, serial=serial, allow_older=allow_older)
