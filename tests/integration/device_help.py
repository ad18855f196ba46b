"""What tests of devices share: a small build, edgeq's command, the address of a board, what any way to one must do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgeq import pipeline
from edgeq.device.ssh_connection import Address
from edgeq.files import cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgeq.device.board import RunningBoard
    from edgeq.device.transport import Transport

SMALL_SAMPLES = 24
SMALL_CONVNET = f"""
import torch

def load():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 3, stride=2), torch.nn.ReLU6(), torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU6()]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(16 * 5 * 5, 10)).eval()

def _inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range({SMALL_SAMPLES}):
        yield torch.randn(1, 3, 16, 16, generator=generator)

def calibration():
    for inputs in _inputs(1):
        yield (inputs,)

def evaluation():
    model = load()
    for index, inputs in enumerate(_inputs(2)):
        yield (inputs,), (int(model(inputs).argmax()) if index % 4 else -1)
"""
"""Three of four of its samples have a label."""


def run_edgeq(*args: object, cwd: Path, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """What the command does in that folder, its home for what `--device local` deploys; the cache is shared."""
    return subprocess.run(
        [sys.executable, "-m", "edgeq", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=timeout,
        env={**os.environ, "HOME": str(cwd), "EDGEQ_CACHE": str(cache_dir())},
    )


def toml(
    *,
    size: int = 16,
    target: str = "rpi4",
    formats: Sequence[str] = ("pte", "onnx"),
    recipes: Sequence[str] = ("fp32",),
) -> str:
    """The edgeq.toml of a network of tiny.py that takes a picture of ``size`` by ``size`` pixels."""
    return f"""
[model]
name = "tiny"
factory = "tiny.py:load"
inputs = [{{ shape = [1, 3, {size}, {size}], dtype = "float32" }}]
[data]
calibration = "tiny.py:calibration"
evaluation = "tiny.py:evaluation"
[build]
target = "{target}"
formats = {json.dumps(formats)}
recipes = {json.dumps(recipes)}
"""


def built(folder: Path, project: str, code: str) -> pipeline.Build:
    """The build of a project of two files, edgeq.toml and tiny.py."""
    (folder / "edgeq.toml").write_text(project)
    (folder / "tiny.py").write_text(code)
    # In a process of its own: torch and executorch warn of their own deprecations, which are errors here.
    command = [sys.executable, "-m", "edgeq", "build", str(folder), "--out", str(folder / "out"), "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return pipeline.read_build(folder / "out")


def board_address(emulated: RunningBoard, user: str) -> Address:
    """The way to an emulated board as that user."""
    return Address(
        name="board",
        host=emulated.host,
        port=emulated.port,
        user=user,
        key_path=emulated.key_path,
        host_key=emulated.host_key,
    )


def streams_50_mb_both_ways(device: Transport) -> None:
    """Input and output move at once, and nothing is lost."""
    chunk = os.urandom(1 << 20)
    received = bytearray()
    done = device.run(["cat"], stdin=(chunk for _ in range(50)), on_stdout=received.extend)
    assert done.status == 0
    assert received == chunk * 50


def is_not_blocked_by_a_flood_on_stderr(device: Transport) -> None:
    """A program that writes 20 MB to stderr before it reads gets its input all the same."""
    script = "head -c 20000000 /dev/zero >&2; wc -c"
    done = device.run(["sh", "-c", script], stdin=(bytes(1 << 20) for _ in range(8)))
    assert int(done.stdout) == 8 << 20
    assert len(done.stderr) < 1 << 20


def ends_with_a_program_that_reads_nothing(device: Transport) -> None:
    """Endless input does not keep a call whose program is over."""

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 16)

    assert device.run(["sh", "-c", "exit 4"], stdin=endless()).status == 4


def passes_an_error_of_the_stream_on(device: Transport) -> None:
    """What the caller's own input raises comes back as it is, and the device is of use afterwards."""

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ValueError("the data ended early")

    with pytest.raises(ValueError, match="ended early"):
        device.run(["cat"], stdin=broken())
    assert device.run(["echo", "still"]).stdout == b"still\n"
