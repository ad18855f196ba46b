"""Debian packages as their lock says, from the cache or through apt."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import PackageNotFoundError, WrongHashError
from edgeq.files import cache_dir, disk_errors, folder_lock, sha256_file, write_text
from edgeq.packages.apt import AptRoot, as_locked, first_dependency
from edgeq.packages.locks import DebLock, LockedDeb, load_deb_lock, lock_path
from edgeq.schema import from_json, to_json

if TYPE_CHECKING:
    from edgeq.progress import Progress


@dataclass(frozen=True, kw_only=True)
class FetchedDeb:
    """A package in the cache: what the lock asked for, and what it is.

    They differ when the mirror has dropped the locked version; what came
    instead is the suite's current version, from its signed index.
    """

    locked: LockedDeb
    fetched: LockedDeb
    path: Path


def fetch_debs(lock: str, *, progress: Progress) -> tuple[Path, ...]:
    """The packages of the lock called ``lock`` as files, in its order; see :func:`resolve_debs`."""
    return tuple(deb.path for deb in resolve_debs(lock, progress=progress))


def resolve_debs(lock: str, *, progress: Progress) -> tuple[FetchedDeb, ...]:
    """The packages of the lock called ``lock``, fetched where the cache does not hold them.

    Debian's mirrors keep only the current version of a package. One that is
    gone is replaced by its successor, which is said through ``progress``
    and in the result. Raises FetchError, WrongHashError (the same version
    with other bytes), NoDebianMirrorError and MissingToolError.
    """
    wanted = load_deb_lock(lock)
    folder = cache_dir() / "debs"
    missing = [deb for deb in wanted.deb if _cached(deb, folder) is None]
    if missing:
        with folder_lock(folder), disk_errors(folder):
            # Another process may have fetched them while this one waited.
            missing = [deb for deb in missing if _cached(deb, folder) is None]
            if missing:
                _fetch(wanted, missing, folder, progress)
    found = [_cached(deb, folder) for deb in wanted.deb]
    return tuple(deb for deb in found if deb is not None)


def relock(lock: str, *, progress: Progress) -> None:
    """Rewrite the lock called ``lock`` with the current versions of its ``packages`` and ``metapackages``."""
    path = lock_path(lock)
    old = load_deb_lock(lock)
    progress.step(f"reading the package index of {old.suite}")
    apt = AptRoot(old.suite, old.architecture)
    names = [(name, "") for name in old.packages]
    metas = apt.available(old.metapackages) if old.metapackages else {}
    for meta in old.metapackages:
        if meta not in metas:
            raise PackageNotFoundError(meta, old.suite)
        names.append((first_dependency(metas[meta][0]), meta))
    entries = apt.available(name for name, _ in names)
    debs = []
    for name, meta in names:
        if name not in entries:
            raise PackageNotFoundError(name, old.suite)
        debs.append(as_locked(entries[name][0], old.suite, meta=meta))
    write_text(path, _as_toml(old, debs))


def _cached(deb: LockedDeb, folder: Path) -> FetchedDeb | None:
    """What stands in the cache for ``deb``; a damaged file is removed and counts as absent."""
    note = folder / f"{deb.sha256}.superseded.json"
    actual = from_json(LockedDeb, note.read_bytes(), where=str(note)) if note.is_file() else deb
    path = folder / f"{actual.sha256}.deb"
    if not path.is_file():
        return None
    if sha256_file(path) != actual.sha256:
        path.unlink(missing_ok=True)
        return None
    return FetchedDeb(locked=deb, fetched=actual, path=path)


def _fetch(lock: DebLock, missing: list[LockedDeb], folder: Path, progress: Progress) -> None:
    progress.step(f"reading the package index of Debian {lock.suite}")
    apt = AptRoot(lock.suite, lock.architecture)
    actual = _choose(apt, missing, lock.suite)

    size = sum(deb.size for deb in actual) / 1e6
    progress.step(f"fetching {len(actual)} Debian packages for {lock.purpose} ({size:.0f} MB)")
    for leftover in folder.glob(".fetch-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
        apt.download(actual, Path(temporary))
        fetched = {sha256_file(path): path for path in Path(temporary).glob("*.deb")}
        for deb in actual:
            if deb.sha256 not in fetched:
                raise WrongHashError(f"{deb.name} {deb.version}")
            fetched[deb.sha256].rename(folder / f"{deb.sha256}.deb")
    for locked, instead in zip(missing, actual, strict=True):
        if instead != locked:
            progress.step(
                f"{locked.name} {locked.version} is no longer on the mirror: "
                f"{instead.name} {instead.version} of {lock.suite} instead"
            )
            write_text(folder / f"{locked.sha256}.superseded.json", to_json(instead))


def _choose(apt: AptRoot, wanted: list[LockedDeb], suite: str) -> list[LockedDeb]:
    """For each package the locked version where the index has it, else the newest the index has."""
    names = {deb.name for deb in wanted} | {deb.meta for deb in wanted if deb.meta}
    index = apt.available(sorted(names))
    chosen = []
    for deb in wanted:
        entries = index.get(deb.name, [])
        if deb.meta and not any(entry["Version"] == deb.version for entry in entries):
            meta = index.get(deb.meta, [])
            name = first_dependency(meta[0]) if meta else deb.meta
            entries = apt.available([name]).get(name, [])
        if not entries:
            raise PackageNotFoundError(deb.name, suite)
        offered = [as_locked(entry, suite, meta=deb.meta) for entry in entries]
        same = next((offer for offer in offered if offer.name == deb.name and offer.version == deb.version), None)
        if same is not None and same.sha256 != deb.sha256:
            raise WrongHashError(f"{deb.name} {deb.version}")
        chosen.append(same or offered[0])
    return chosen


def _as_toml(lock: DebLock, debs: list[LockedDeb]) -> str:
    def names(values: tuple[str, ...]) -> str:
        return "".join(f'    "{value}",\n' for value in values)

    text = (
        f'purpose = "{lock.purpose}"\nsuite = "{lock.suite}"\narchitecture = "{lock.architecture}"\n'
        f"packages = [\n{names(lock.packages)}]\n"
    )
    if lock.metapackages:
        text += f"metapackages = [\n{names(lock.metapackages)}]\n"
    for deb in debs:
        text += (
            f'\n[[deb]]\nname = "{deb.name}"\nversion = "{deb.version}"\narchitecture = "{deb.architecture}"\n'
            f'suite = "{deb.suite}"\nsize = {deb.size}\nsha256 = "{deb.sha256}"\n'
        )
        if deb.meta:
            text += f'meta = "{deb.meta}"\n'
    return text
