"""The machine that a benchmark ran on, as its results name it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> dict[str, object]:
    """The processor's own name, the cores that may be used, and the load averages of now."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = next(iter(names), platform.machine())
    return {"processor": name, "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()}
