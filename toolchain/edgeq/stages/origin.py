"""BUILD/origin.json: whose build it is, and of which commit; the history names its rows by it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from edgeq.errors import ConfigError
from edgeq.files import write_text
from edgeq.records import Origin
from edgeq.schema import from_json, to_json

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = "origin.json"
_GIT_TIMEOUT_S = 20.0


def keep_origin(project: Path, build: Path) -> None:
    """Note where a build that is up to date comes from; one that may only be read stays as it is."""
    with contextlib.suppress(OSError):
        write_text(build / ORIGIN, to_json(origin_of(project), indent=2) + "\n")


def read_origin(build: Path) -> Origin | None:
    """Where the build in that folder comes from; None if it does not say so."""
    path = build / ORIGIN
    try:
        return from_json(Origin, path.read_bytes(), where=str(path))
    except (OSError, ConfigError):
        return None


def origin_of(project: Path) -> Origin:
    """The project's folder and the commit that is checked out there; no commit where git or a repository is missing."""
    commit = _git(project, "rev-parse", "--verify", "--quiet", "HEAD")
    changed = _git(project, "status", "--porcelain", "--untracked-files=no") if commit else ""
    return Origin(project=str(project), commit=commit, dirty=bool(changed))


def _git(project: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments],
            capture_output=True,
            check=False,
            timeout=_GIT_TIMEOUT_S,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # only looks: takes no lock that somebody else waits for
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""
