"""Wheels as their lock says, from the cache or through pip."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import DiskFullError, FetchError, MissingToolError, UnknownNameError, WrongHashError
from edgeq.files import cache_dir, disk_errors, folder_lock, sha256_file, write_text
from edgeq.packages.locks import LockedWheel, load_wheel_lock

if TYPE_CHECKING:
    from edgeq.progress import Progress


def fetch_wheel(name: str, *, progress: Progress) -> Path:
    """The wheel called ``name`` in ``locks/wheels.toml`` as a file, fetched where the cache does not hold it.

    It is for the machine that its name says, whatever this one is. The
    user's pip configuration (index, links, proxy) holds.
    """
    known = {wheel.name: wheel for wheel in load_wheel_lock().wheel}
    if name not in known:
        raise UnknownNameError("wheel", name, known)
    wheel = known[name]
    path = cache_dir() / "wheels" / f"{wheel.sha256}.whl"
    if not _whole(path, wheel):
        with folder_lock(path.parent), disk_errors(path.parent):
            # Another process may have fetched it while this one waited.
            if not _whole(path, wheel):
                _fetch(wheel, path, progress)
    return path


def _whole(path: Path, wheel: LockedWheel) -> bool:
    return path.is_file() and sha256_file(path) == wheel.sha256


def _fetch(wheel: LockedWheel, path: Path, progress: Progress) -> None:
    if importlib.util.find_spec("pip") is None:
        raise MissingToolError("pip", needed_for="fetching the device runtimes", package="python3-pip")
    progress.step(f"fetching {wheel.project} {wheel.version} for {wheel.platform} ({wheel.size / 1e6:.0f} MB)")
    for leftover in path.parent.glob(".fetch-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as temporary:
        requirements = Path(temporary) / "requirements.txt"
        write_text(requirements, f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        done = subprocess.run(
            _pip_download(wheel, requirements),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        what = f"{wheel.project} {wheel.version} for {wheel.platform}"
        if done.returncode:
            if "No space left" in done.stderr:
                raise DiskFullError(path.parent)
            if "DO NOT MATCH THE HASHES" in done.stderr:
                raise WrongHashError(what)
            raise FetchError(
                "pip", what, done.stderr.strip(), hint="check the connection and pip's settings (pip config list)"
            )
        fetched = next(Path(temporary).glob("*.whl"))
        if sha256_file(fetched) != wheel.sha256:
            raise WrongHashError(what)
        fetched.rename(path)


def _pip_download(wheel: LockedWheel, requirements: Path) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--only-binary", ":all:", "--dest", str(requirements.parent)),
        *("--implementation", "cp", "--python-version", wheel.python, "--abi", wheel.abi),
        *("--platform", wheel.platform, "--requirement", str(requirements)),
    )
