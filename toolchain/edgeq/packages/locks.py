"""The lock files: which packages, which version, which bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import UnknownNameError
from edgeq.schema import load_toml

LOCKS = Path(__file__).parents[1] / "locks"

_WHEELS = "wheels"


@dataclass(frozen=True, kw_only=True)
class LockedDeb:
    """One Debian package. ``meta`` is the package whose first dependency names it, for names that hold a version."""

    name: str
    version: str
    architecture: str
    suite: str
    size: int
    sha256: str
    meta: str = ""


@dataclass(frozen=True, kw_only=True)
class DebLock:
    """Debian packages of one suite and architecture.

    ``packages`` is what a person wrote, dependencies and all;
    ``metapackages`` are names that stand for their first dependency.
    ``deb`` follows from both.
    """

    purpose: str
    suite: str
    architecture: str
    packages: tuple[str, ...]
    metapackages: tuple[str, ...] = ()
    deb: tuple[LockedDeb, ...]


@dataclass(frozen=True, kw_only=True)
class LockedWheel:
    """One wheel: the tags make pip choose it whatever Python and machine it runs on.

    ``carries`` is the version of the runtime in it, where the wheel is
    another project's and has a version of its own.
    """

    name: str
    project: str
    version: str
    python: str
    abi: str
    platform: str
    size: int
    sha256: str
    carries: str = ""

    @property
    def runtime_version(self) -> str:
        """The version of the runtime that is in it."""
        return self.carries or self.version


@dataclass(frozen=True, kw_only=True)
class WheelLock:
    """The wheels whose libraries edgeq carries to devices."""

    purpose: str
    wheel: tuple[LockedWheel, ...]


def lock_path(name: str) -> Path:
    """The file of the lock called ``name``; UnknownNameError if there is none."""
    path = LOCKS / f"{name}.toml"
    if not path.is_file():
        raise UnknownNameError("lock", name, (known.stem for known in LOCKS.glob("*.toml")))
    return path


def load_deb_lock(name: str) -> DebLock:
    """The lock of Debian packages called ``name``."""
    path = lock_path(name)
    if name == _WHEELS:
        others = (other.stem for other in LOCKS.glob("*.toml") if other.stem != _WHEELS)
        raise UnknownNameError("lock of Debian packages", name, others)
    return load_toml(DebLock, path)


def load_wheel_lock() -> WheelLock:
    """The lock of all wheels."""
    return load_toml(WheelLock, lock_path(_WHEELS))
