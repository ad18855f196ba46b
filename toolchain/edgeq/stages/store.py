"""What lies on a device: listed, rolled back, and cleaned up."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq import runner
from edgeq.device.trust import read_trust, trusted_folder
from edgeq.errors import DamagedDeploymentError, NothingToRollBackError, SeveralTargetsError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from edgeq.device.store import Contents, Listed, Store
    from edgeq.device.transport import Transport
    from edgeq.progress import Progress

_RUNNER = "edgeq-runner-"
_VERIFY_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Held:
    """A deployment that a device holds. ``name`` is MODEL@TARGET, empty for one that no model points to any more."""

    name: str
    id: str
    active: bool
    made_at: str
    files: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class RolledBack:
    """A model whose active deployment is the one before again."""

    name: str
    active: str
    before: str


@dataclass(frozen=True, kw_only=True)
class Freed:
    """What was removed from a device; bytes are those of blobs."""

    deployments: tuple[str, ...]
    blobs: int
    freed_bytes: int


def held(store: Store, *, progress: Progress) -> tuple[Held, ...]:
    """Every deployment there: model by model, the active one first, then those that no model points to."""
    with store.opened(progress) as contents:
        found = {one.id: one for one in store.list()}
    rows = [
        _held(name, found[one], active=index == 0)
        for name, ids in sorted(contents.pointers.items())
        for index, one in enumerate(ids)
        if one in found
    ]
    pointed_to = {row.id for row in rows}
    return (*rows, *(_held("", one, active=False) for one in found.values() if one.id not in pointed_to))


def roll_back(store: Store, transport: Transport, name: str, *, progress: Progress) -> RolledBack:
    """Make the deployment before the active one of ``name`` (MODEL or MODEL@TARGET) active again.

    It is verified first: its own runner hashes every file of it, and each
    hash must be that of a blob. On a device that trusts keys one of them
    must have signed it; that it is older is what was asked for. Raises
    UnknownNameError, SeveralTargetsError, NothingToRollBackError,
    DamagedDeploymentError or RunnerFailedError, and nothing has changed then.
    """
    with store.opened(progress, alone=True) as contents:
        pointer = _pointer(contents, name, transport.name)
        ids = contents.pointers[pointer]
        if len(ids) < 2:  # noqa: PLR2004  # the active one and one before
            raise NothingToRollBackError(transport.name, pointer)
        active, before = ids[:2]
        files = next((one.files for one in store.list() if one.id == before), {})
        progress.step(f"verifying {len(files)} files of {before} on {transport.name}")
        _verify(store, transport, before, sorted(files), contents.blobs)
        progress.step(f"activating {before}")
        store.activate(pointer, before)
    return RolledBack(name=pointer, active=before, before=active)


def clean_up(store: Store, *, keep: int, progress: Progress) -> Freed:
    """Remove all deployments but the last ``keep`` of each model (the active one counts), and blobs nobody needs."""
    with store.opened(progress, alone=True) as contents:
        kept = {one for ids in contents.pointers.values() for one in ids[:keep]}
        dropped = tuple(sorted(contents.deployments - kept))
        progress.step(f"removing {len(dropped)} deployments and what belongs to none")
        freed = store.remove(dropped, links=contents.links)
    return Freed(deployments=dropped, blobs=len(freed), freed_bytes=sum(freed.values()))


def _held(name: str, one: Listed, *, active: bool) -> Held:
    made_at = "" if one.made_at is None else dt.datetime.fromtimestamp(one.made_at, dt.timezone.utc).isoformat()
    size = sum(one.files.values())
    return Held(name=name, id=one.id, active=active, made_at=made_at, files=len(one.files), size_bytes=size)


def _pointer(contents: Contents, name: str, device: str) -> str:
    """The one pointer that ``name`` means."""
    found = [one for one in contents.pointers if name in (one, one.rpartition("@")[0])]
    if not found:
        raise UnknownNameError("model", name, contents.pointers, where=f"on {device!r}")
    if len(found) > 1:
        raise SeveralTargetsError(device, name, found)
    return found[0]


def _verify(store: Store, transport: Transport, deployment: str, names: Sequence[str], blobs: Collection[str]) -> None:
    """Raise what a runner of the deployment itself finds wrong with it, or what a device that trusts keys misses."""
    folder = store.folder(deployment)
    executable = next((name for name in names if name.startswith(_RUNNER)), None)
    if executable is None:
        raise DamagedDeploymentError(transport.name, deployment, [f"no {_RUNNER}*"])
    seen = runner.hash_files(transport, folder=folder, executable=executable, names=names, timeout_s=_VERIFY_TIMEOUT_S)
    wrong = [name for name in names if seen.get(name) not in blobs]
    if wrong:
        raise DamagedDeploymentError(transport.name, deployment, wrong)
    if read_trust(transport, store.root).keys:
        trusted = trusted_folder(store.root)
        runner.verify(transport, folder=folder, executable=executable, trusted=trusted, timeout_s=_VERIFY_TIMEOUT_S)
