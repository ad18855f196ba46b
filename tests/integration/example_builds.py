"""Builds of the examples that several test files look at: made once, in edgeq's cache, and again where out of date."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from edgeq.files import cache_dir, folder_lock

EXAMPLES = Path(__file__).parents[2] / "examples"


def example_build(name: str) -> Path:
    """The build of ``examples/NAME`` for a Raspberry Pi 4; to be read only."""
    checkout = hashlib.sha256(str(EXAMPLES).encode()).hexdigest()[:8]  # another one's build would be out of date here
    folder = cache_dir() / "tests" / "builds" / checkout / name
    environment = {key: value for key, value in os.environ.items() if key != "EDGEQ_IMAGENET"}
    with folder_lock(folder.with_suffix(".lock")):
        done = subprocess.run(
            [sys.executable, "-m", "edgeq", "build", EXAMPLES / name, "--target", "rpi4", "--out", folder],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env=environment,
        )
    assert done.returncode == 0, done.stderr
    return folder
