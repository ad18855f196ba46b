"""The manifest of a deployment, which its signature is over, and what a file in it may be called.

It lies beside the files it names as ``deployment.json``, the 64 bytes of the
signature as ``deployment.json.sig``. One deployment has one text: keys are
sorted, nothing stands between them. ``toolchain/runner/README.md`` specifies
it, as the runner reads it too.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import Literal

from edgeq.errors import ConfigError, UnsafeNameError
from edgeq.schema import from_data, to_data

MANIFEST_NAME = "deployment.json"
SIGNATURE_NAME = "deployment.json.sig"

SCHEMA = 1
_MOST_SERIAL = 10**18 - 1
_MOST_NAME_BYTES = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class DeployedFile:
    """A file of a deployment. ``runner`` is the program that runs this model, loads this library, or is this file."""

    role: Literal["model", "runtime"]
    runner: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class DeviceManifest:
    """What a deployment consists of. ``files`` are by their names in its folder.

    ``serial`` tells older from newer: the time of the build, in seconds since
    1970. Two deployments of one build have the same.
    """

    schema: int = SCHEMA
    id: str
    model: str
    target: str
    serial: int
    files: dict[str, DeployedFile]


def serial_of(created_at: str) -> int:
    """The serial of a build from its manifest's ``created_at``."""
    try:
        return int(dt.datetime.fromisoformat(created_at).timestamp())
    except ValueError:
        raise ConfigError(
            f"manifest.json says that it was made at {created_at!r}, which is no time", hint="run edgeq build again"
        ) from None


def manifest_bytes(manifest: DeviceManifest) -> bytes:
    """The one text of a manifest; UnsafeNameError if a name in it could lead out of its folder."""
    _check(manifest)
    return json.dumps(to_data(manifest), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_manifest(data: bytes, *, where: str) -> DeviceManifest:
    """Read what :func:`manifest_bytes` wrote, and nothing else: ConfigError for any other bytes."""
    try:
        manifest = from_data(DeviceManifest, json.loads(data.decode()), where=where)
        same = manifest.schema == SCHEMA and manifest_bytes(manifest) == data
    except (ValueError, RecursionError) as error:
        raise _unreadable(where, str(error)) from error
    if not same:
        raise _unreadable(where, f"schema {manifest.schema}, or written in another way")
    return manifest


def _unreadable(where: str, problem: str) -> ConfigError:
    return ConfigError(f"{where} is no manifest of a deployment that this edgeq reads: {problem}", hint="deploy again")


def check_file_name(name: str) -> None:
    """UnsafeNameError unless ``name`` is that of a file inside a folder, and of nothing else."""
    if not name or name in (".", "..") or "/" in name or len(name.encode()) > _MOST_NAME_BYTES:
        raise UnsafeNameError(name)
    _check_text(name)


def _check(manifest: DeviceManifest) -> None:
    for text in (manifest.id, manifest.model, manifest.target):
        _check_text(text)
    if not 0 <= manifest.serial <= _MOST_SERIAL:
        raise ValueError(f"{manifest.serial} is no serial")
    for name, file in manifest.files.items():
        check_file_name(name)
        runner = manifest.files.get(file.runner)
        if runner is None or runner.role != "runtime" or runner.runner != file.runner:
            raise ValueError(f"{name!r} belongs to no runner of it")


def _check_text(text: str) -> None:
    if _CONTROL.search(text):
        raise UnsafeNameError(text)
