"""Push a build to a device: only what is missing travels, and nothing is active before it was verified there.

The steps stand below :func:`deploy` in the order in which it takes them;
they share its arguments and nothing else uses them, so they stay together.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import runner
from edgeq.device.facts import read_facts
from edgeq.device.inventory import store_root
from edgeq.device.manifest import DeployedFile, serial_of
from edgeq.device.store import Contents, Store
from edgeq.errors import (
    ConfigError,
    DamagedTransferError,
    DeviceBusyError,
    DeviceDiskFullError,
    NotDeployedError,
    RunnerCrashedError,
    RunnerFailedError,
    RunnerProtocolError,
)
from edgeq.files import sha256_file, write_text
from edgeq.integrity import check_artifact, read_golden
from edgeq.records import Deployment
from edgeq.schema import from_json, to_json
from edgeq.stages.compatibility import Room, other_runtimes, require_compatible, slower_kernels
from edgeq.stages.deployed import smoke_test
from edgeq.stages.signing import admit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeq.device.keyring import SigningKey
    from edgeq.device.transport import Transport
    from edgeq.progress import Progress
    from edgeq.records import DeviceFacts, Manifest, Signed
    from edgeq.runner import RunnerBundle
    from edgeq.stages.signing import Admission
    from edgeq.target import Target

_SPARE_BYTES = 4 << 20
_HASH_TIMEOUT_S = 300.0
_TRIES = 10
_RUNNER_ERRORS = (RunnerCrashedError, RunnerFailedError, RunnerProtocolError)


@dataclass(frozen=True, kw_only=True)
class DeployResult:
    """A deployment, and how many bytes of blobs had to travel for it.

    ``unchanged`` says that it was active already and no file of it had been
    touched since it was verified; the deployment is then as it was recorded.
    """

    deployment: Deployment
    transferred_bytes: int
    unchanged: bool = False


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file to be on the device under ``name``."""

    name: str
    local: Path
    sha256: str
    size_bytes: int
    executable: bool


def deploy(  # noqa: PLR0913  # a build, a device and what connects them
    build: Path,
    manifest: Manifest,
    target: Target,
    transport: Transport,
    bundles: Mapping[str, RunnerBundle],
    *,
    device: str,
    sign: SigningKey | None = None,
    allow_older: bool = False,
    verify: bool = False,
    activate: bool = True,
    smoke: bool = True,
    progress: Progress,
) -> DeployResult:
    """Push what is missing of the build and its runners, verify and try everything there, then activate it.

    Without ``activate`` it lies there to be measured, and what is active
    stays so; ``edgeq gc`` removes it.

    Every file is hashed on the device, and every artifact runs once on its
    golden input. A deployment that is active already is only looked at,
    unless a file of it was touched since, or it is to be ``verify``-ed.

    ``bundles`` holds a runner for each runtime that the artifacts require.
    With ``sign`` the deployment carries a signed manifest; a device that
    trusts a key takes no other one, and none older than the active one
    unless ``allow_older``.
    Before anything is pushed: CorruptArtifactError if a file of the build is
    not what the manifest says, and what ``require_compatible`` and
    :func:`edgeq.stages.signing.admit` raise.
    After any error the deployment that was active before still is.

    Without ``smoke`` no artifact is run, for a caller who wants to see what
    they give, and nothing is recorded.
    """
    progress.step("checking the build")
    files = _files(build, manifest, bundles)
    if smoke:
        for artifact in manifest.artifacts:
            read_golden(build, artifact)  # not after minutes of a push
    store = Store(transport, store_root(device))
    pointer = f"{_file_safe(manifest.model)}@{_file_safe(target.name)}"
    identity = _identity(manifest, target, files, sign)

    def ask() -> Admission:
        return admit(manifest, transport, store, pointer=pointer, device=device, key=sign, allow_older=allow_older)

    admission = ask()
    last = None if verify else _last(build, device, identity)
    if last is not None and admission.was_proven(last) and store.stands(pointer, identity):
        return DeployResult(deployment=last, transferred_bytes=0, unchanged=True)
    facts = read_facts(transport)
    files |= _signature(build, admission, identity, target, files, bundles)
    deployment = _record(
        manifest, target, files, bundles, identity, admission.signed, device=device, facts=facts, store=store
    )
    with store.opened(progress) as contents:
        missing = {} if deployment.id in contents.deployments else _missing(files, contents)
        room = _room(store, missing, contents, files)
        require_compatible(build, manifest, target, bundles, facts, device=transport.name, room=room)
        transferred = _bring(store, transport, deployment.id, files, bundles, contents=contents, progress=progress)
        executable = next(iter(bundles.values())).executable
        admission.verify(transport, deployment, executable)
        if smoke:
            smoke_test(build, manifest.artifacts, deployment, transport, progress=progress)
        if activate:
            progress.step(f"activating {deployment.id}")
            admission = _activate(store, transport, pointer, deployment, executable, proven=admission, ask=ask)
            deployment = replace(deployment, signed=admission.signed)
    if smoke:
        write_text(deployment_path(build, device), to_json(deployment, indent=2) + "\n")
    return DeployResult(deployment=deployment, transferred_bytes=transferred)


def _activate(  # noqa: PLR0913  # as above
    store: Store,
    transport: Transport,
    pointer: str,
    deployment: Deployment,
    executable: str,
    *,
    proven: Admission,
    ask: Callable[[], Admission],
) -> Admission:
    """Move the pointer if what the device trusts and holds is still what ``proven`` stands for, else prove it anew.

    A push takes minutes: a key may have become trusted meanwhile, or a newer
    build active. Raises what :func:`edgeq.stages.signing.admit` and the
    runner say of that, DeviceBusyError if others do not stop.
    """
    for _ in range(_TRIES):
        latest = ask()
        if latest.trust != proven.trust:
            latest.verify(transport, deployment, executable)
        if store.activate(pointer, deployment.id, after=latest.trust.active_id):
            return latest
        proven = latest
    raise DeviceBusyError(transport.name, store.root)


def _last(build: Path, device: str, identity: str) -> Deployment | None:
    """What was last deployed there from here, if that is known and was this one."""
    try:
        last = read_deployment(build, device)
    except ConfigError:
        return None
    return last if last.id == identity else None


def deployment_path(build: Path, device: str) -> Path:
    """Where the record of a build's deployment to that device is."""
    return build / "deployments" / f"{_file_safe(device)}.json"


def read_deployment(build: Path, device: str) -> Deployment:
    """What was last deployed there; NotDeployedError if nothing was, ConfigError if the record is damaged."""
    path = deployment_path(build, device)
    if not path.is_file():
        raise NotDeployedError(build, device)
    return from_json(Deployment, path.read_bytes(), where=str(path))


def _files(build: Path, manifest: Manifest, bundles: Mapping[str, RunnerBundle]) -> dict[str, _File]:
    """Everything that belongs to the deployment, by name, each file as it is on this machine."""
    found = {}
    for artifact in manifest.artifacts:
        check_artifact(build, artifact)
        found[artifact.name] = _file(artifact.name, build / artifact.name, artifact.sha256, executable=False)
    for bundle in bundles.values():
        for name, local in bundle.files.items():
            found[name] = _file(name, local, sha256_file(local), executable=name == bundle.executable)
    return found


def _file(name: str, local: Path, sha256: str, *, executable: bool) -> _File:
    size = local.stat().st_size
    return _File(name=name, local=local, sha256=sha256, size_bytes=size, executable=executable)


def _identity(manifest: Manifest, target: Target, files: Mapping[str, _File], key: SigningKey | None) -> str:
    """A hash of what a deployment consists of, so that deploying the same twice is one deployment."""
    content: dict[str, object] = {
        "model": manifest.model,
        "target": target.name,
        "files": {name: file.sha256 for name, file in sorted(files.items())},
    }
    if key is not None:
        content["signed"] = [key.public.fingerprint, serial_of(manifest.created_at)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _signature(  # noqa: PLR0913, PLR0917  # what a deployment is made of
    build: Path,
    admission: Admission,
    identity: str,
    target: Target,
    files: Mapping[str, _File],
    bundles: Mapping[str, RunnerBundle],
) -> dict[str, _File]:
    """The manifest for the device and its signature, as BUILD/signed/ID holds them; nothing if it is not signed."""
    runners = {name: bundle.executable for bundle in bundles.values() for name in bundle.files}
    models = {one.name: bundles[one.requires.runtime].executable for one in admission.build.artifacts}
    said = {
        name: DeployedFile(
            role="model" if name in models else "runtime",
            runner=models.get(name) or runners[name],
            sha256=file.sha256,
            size=file.size_bytes,
        )
        for name, file in files.items()
    }
    written = admission.write(build / "signed" / identity, identity, target.name, said)
    return {name: _file(name, path, sha256_file(path), executable=False) for name, path in written.items()}


def _record(  # noqa: PLR0913, PLR0917  # as above
    manifest: Manifest,
    target: Target,
    files: Mapping[str, _File],
    bundles: Mapping[str, RunnerBundle],
    identity: str,
    signed: Signed | None,
    *,
    device: str,
    facts: DeviceFacts,
    store: Store,
) -> Deployment:
    """The record of it."""
    return Deployment(
        id=identity,
        model=manifest.model,
        target=target.name,
        device=device,
        device_facts=facts,
        root=store.folder(identity),
        files={name: file.sha256 for name, file in files.items()},
        artifacts={artifact.name: artifact.sha256 for artifact in manifest.artifacts},
        runners={engine: files[bundle.executable].sha256 for engine, bundle in bundles.items()},
        deployed_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        signed=signed,
        warnings=(*slower_kernels(target, facts), *other_runtimes(bundles)),
        runtime_bytes={
            engine: sum(files[name].size_bytes for name in bundle.files) for engine, bundle in bundles.items()
        },
    )


def _bring(  # noqa: PLR0913  # as above
    store: Store,
    transport: Transport,
    deployment: str,
    files: Mapping[str, _File],
    bundles: Mapping[str, RunnerBundle],
    *,
    contents: Contents,
    progress: Progress,
) -> int:
    """Make the deployment complete and correct on the device; how many bytes were pushed for that."""
    names = {name: file.sha256 for name, file in files.items()}
    there = deployment in contents.deployments
    wrong: set[str] = set()
    if there:
        progress.step(f"verifying {len(files)} files on {transport.name}")
        wrong = _wrong(store, transport, deployment, files, bundles, lenient=True)
        if not wrong:
            return 0
    missing = _missing(files, contents) | {files[name].sha256: files[name] for name in wrong}
    transferred = _push(store, transport, missing, contents, files, progress=progress)
    store.link(deployment, names, again=there)

    progress.step(f"verifying {len(files)} files on {transport.name}")
    wrong = _wrong(
        store, transport, deployment, files, bundles, lenient=len(missing) < len(files) or bool(contents.parts)
    )
    if wrong:  # a blob from before, or its beginning, had the right name and size, and other bytes
        again = {files[name].sha256: files[name] for name in wrong}
        transferred += _push(store, transport, again, replace(contents, parts={}), files, progress=progress)
        store.link(deployment, names, again=True)
        wrong = _wrong(store, transport, deployment, files, bundles, lenient=False)
    if wrong:
        raise DamagedTransferError(transport.name, sorted(wrong))
    return transferred


def _missing(files: Mapping[str, _File], contents: Contents) -> dict[str, _File]:
    """The files whose blobs are not there or not whole, by their sha256."""
    return {file.sha256: file for file in files.values() if contents.blobs.get(file.sha256) != file.size_bytes}


def _starts(missing: Mapping[str, _File], contents: Contents) -> dict[str, int]:
    """How much of each of ``missing`` a push that was cut has left there."""
    return {sha256: min(contents.parts.get(sha256, 0), file.size_bytes) for sha256, file in missing.items()}


def _room(store: Store, missing: Mapping[str, _File], contents: Contents, files: Mapping[str, _File]) -> Room | None:
    """What pushing ``missing`` (sha256 to file) takes, None if that is nothing or the device does not say its room."""
    if not missing or contents.free_bytes is None:
        return None
    starts = _starts(missing, contents)
    needed = sum(file.size_bytes - starts[sha256] for sha256, file in missing.items()) + _SPARE_BYTES
    if not contents.links:  # the deployment is made of copies there
        needed += sum(file.size_bytes for file in files.values())
    return Room(root=store.root, needed_bytes=needed, free_bytes=contents.free_bytes)


def _push(  # noqa: PLR0913  # as above
    store: Store,
    transport: Transport,
    missing: Mapping[str, _File],
    contents: Contents,
    files: Mapping[str, _File],
    *,
    progress: Progress,
) -> int:
    """Copy the blobs ``missing`` (sha256 to file) if there is room for them; a cut one goes on where it stopped."""
    starts = _starts(missing, contents)
    total = sum(file.size_bytes - starts[sha256] for sha256, file in missing.items())
    room = _room(store, missing, contents, files)
    if room is not None and room.needed_bytes > room.free_bytes:
        raise DeviceDiskFullError(
            transport.name, store.root, needed_bytes=room.needed_bytes, free_bytes=room.free_bytes
        )
    done = 0
    if missing:
        going_on = " and the rest of others" if any(starts.values()) else ""
        progress.step(f"pushing {len(missing)} files{going_on} ({total / 1e6:.1f} MB) to {transport.name}")
    for sha256, file in missing.items():
        store.push(file.local, sha256, executable=file.executable, start=starts[sha256])
        done += file.size_bytes - starts[sha256]
        progress.advance(done, total)
    return done


def _wrong(  # noqa: PLR0913  # as above
    store: Store,
    transport: Transport,
    deployment: str,
    files: Mapping[str, _File],
    bundles: Mapping[str, RunnerBundle],
    *,
    lenient: bool,
) -> set[str]:
    """The files whose bytes on the device are not what they should be, as the runners there see it.

    Each runner hashes the files it came with, and the first one the
    artifacts as well: so each has also shown that it starts. One that does
    not start makes all of its files wrong if ``lenient``.
    """
    folder = store.folder(deployment)
    wrong: set[str] = set()
    of_runners = {name for bundle in bundles.values() for name in bundle.files}
    unseen = set(files) - of_runners
    for bundle in bundles.values():
        names = sorted(set(bundle.files) | unseen)
        try:
            seen = runner.hash_files(
                transport, folder=folder, executable=bundle.executable, names=names, timeout_s=_HASH_TIMEOUT_S
            )
        except _RUNNER_ERRORS:
            if not lenient:
                raise
            wrong |= set(bundle.files)
            continue
        wrong |= {name for name in names if seen.get(name) != files[name].sha256}
        unseen = set()
    return wrong | unseen


def _file_safe(name: str) -> str:
    """A name that is one file's on every system, and another's for every other name."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80].lstrip(".")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
