"""Both runners of this machine with small models, in a folder that is reached as a device is."""

from __future__ import annotations

import os
import platform
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeq.device.local import LocalTransport
from edgeq.progress import Silent
from edgeq.runner import Execution, bundle, execute

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TRIPLE = f"{platform.machine()}-linux-gnu"
SHAPE = (1, 3, 16, 16)
SAMPLES = np.random.default_rng(3).standard_normal((3, *SHAPE)).astype(np.float32)


class Deployed:
    """A folder with both runners, their libraries and models, reached as a device is."""

    def __init__(self, root: Path, *, test_faults: bool = False) -> None:
        self.root = root
        self.transport = LocalTransport(root)
        for engine in ("executorch", "onnxruntime"):
            for name, path in bundle(engine, TRIPLE, progress=Silent(), test_faults=test_faults).files.items():
                target = root / "d" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.symlink_to(path) if name.startswith("lib") else shutil.copy2(path, target)

    def path(self, name: str) -> Path:
        return self.root / "d" / name

    def execute(
        self, model: str, inputs: Iterable[np.ndarray | bytes], **changes: Any
    ) -> tuple[Execution, list[bytes]]:
        outputs: list[bytes] = []
        settings: dict[str, Any] = {
            "folder": "d",
            "executable": f"edgeq-runner-{'onnxruntime' if model.endswith('onnx') else 'executorch'}",
            "model": model,
            "threads": 1,
            "warmup": 0,
            "repeats": 0,
            "count_instructions": False,
            "samples": (x if isinstance(x, bytes) else x.tobytes() for x in inputs),
            "on_outputs": lambda _index, data: outputs.append(data),
            "timeout_s": 30,
        }
        return execute(self.transport, **(settings | changes)), outputs


def with_models(root: Path, models: Path, *, test_faults: bool = False) -> Deployed:
    """A new device in ``root`` with a copy of the ``models``; skips where nothing can be built."""
    if shutil.which("cmake") is None and "CI" not in os.environ:
        pytest.skip("cmake is not installed")
    deployed = Deployed(root, test_faults=test_faults)
    for model in models.iterdir():
        shutil.copy2(model, deployed.path(model.name))
    return deployed
