"""Two machines that should compute the same: one on which they do, and one with a kernel that is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from device_help import built, toml

from edgeq import pipeline
from edgeq.device import board
from edgeq.device.local import LocalTransport
from edgeq.lower import executorch_probe
from edgeq.progress import Silent
from edgeq.quantize.source import module_of
from edgeq.runner import bundle
from edgeq.stages import parity
from edgeq.stages.fleet import Outcome
from edgeq.stages.parity.on_device import see
from edgeq.stages.report.parity import diverging
from edgeq.stages.reuse import program_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeq.device.transport import Completed
    from edgeq.records import Artifact

PROJECT = toml(recipes=["fp32", "int8-static"])

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU6())
        self.wide = nn.Conv2d(16, 24, 1)
        self.back = nn.Sequential(nn.Conv2d(24, 16, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(16, 6)

    def forward(self, x):
        x = self.back(self.wide(self.stem(x)))
        return self.head(x.mean((2, 3)))


def load():
    torch.manual_seed(0)
    net = Net().eval()
    with torch.no_grad():
        for layer in (net.wide, net.back[0], net.head):
            layer.weight.mul_(4)
            layer.bias.zero_()
    return net


def calibration():
    for seed in range(8):
        yield (torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)),)


def evaluation():
    for seed in range(100, 112):
        yield (torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)),), seed % 6
"""

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Build:
    return built(tmp_path_factory.mktemp("parity"), PROJECT, CODE)


class WrongKernel(LocalTransport):
    """A machine that computes one layer of whatever it runs with the signs of its weights turned."""

    def __init__(self, root: Path, weights: bytes) -> None:
        super().__init__(root)
        self._home = root
        self._right = weights
        self._wrong = (-np.frombuffer(weights, dtype=np.int8)).tobytes()

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        words = list(argv)
        if "--model" in words:
            at = words.index("--model") + 1
            model = self._home / words[at]
            data = model.read_bytes()
            assert data.count(self._right) == 1
            wrong = model.with_name(f"wrong-{model.name}")
            wrong.write_bytes(data.replace(self._right, self._wrong))
            words[at] = str(wrong)
        return super().run(words, **options)


def _weights(made: pipeline.Build, module: str) -> bytes:
    """The int8 weights of a module, as both files hold them where the kernel is 1x1."""
    program = executorch_probe.kept_program(made.path / program_file("int8-static"))
    (layer,) = (
        node
        for node in program.graph.nodes
        if node.target == torch.ops.aten.conv2d.default and module_of(node) == module
    )
    weight = layer.args[1].args[0]
    name = {**program.graph_signature.inputs_to_buffers, **program.graph_signature.inputs_to_parameters}[weight.name]
    return bytes(program.state_dict[name].numpy().tobytes())


def _seen(made: pipeline.Build, device: LocalTransport, artifacts: Sequence[Artifact]) -> parity.Compared:
    place = parity.Place(
        build=made.path,
        manifest=made.manifest,
        target=made.target,
        transport=device,
        bundles={name: bundle(name, "x86_64-linux-gnu", progress=Silent()) for name in ("executorch", "onnxruntime")},
        device="local",
    )
    golden = parity.GoldenSet(made.path, made.manifest, 3)
    with parity.Probes(made.path, made.manifest, made.target) as probes:
        found = see(place, artifacts, golden, probes, progress=Silent())
    return parity.compared(
        made.path, made.manifest, artifacts, golden, [Outcome(device="local", state="done", result=found)]
    )


def test_a_wrong_kernel_fails_the_gate_and_its_layer_is_named_in_both_formats(
    made: pipeline.Build, tmp_path: Path
) -> None:
    int8 = [one for one in made.manifest.artifacts if one.recipe == "int8-static"]
    found = _seen(made, WrongKernel(tmp_path, _weights(made, "wide")), int8)
    assert [(row.artifact, row.verdict) for row in found.parity.rows] == [(one.name, "diverges") for one in int8]
    for row, said in zip(found.parity.rows, diverging(found.parity), strict=True):
        assert row.search is not None
        first = next(one for one in row.search.layers if not one.identical)
        assert (first.layer.module, first.layer.node) == ("wide", row.search.first_diverging)
        assert row.search.first_differing == row.search.first_diverging
        assert row.search.layers.index(first) >= 1, "the layers before it are the same"
        assert not row.search.notes, "the probe computes what the artifact computes, and was lowered from its program"
        assert "tiny.py:" in said
    assert not [one for one in (tmp_path / ".edgeq" / "deployments").iterdir() if "probe" in str(list(one.iterdir()))]


def test_a_machine_that_computes_the_same_is_the_same_bit_for_bit_and_nothing_becomes_active(
    made: pipeline.Build, tmp_path: Path
) -> None:
    found = _seen(made, LocalTransport(tmp_path), made.manifest.artifacts)
    assert {row.verdict for row in found.parity.rows if row.artifact.endswith(("int8-static.pte", ".onnx"))} == {
        "identical"
    }
    assert not list((tmp_path / ".edgeq" / "current").iterdir())
    assert not (made.path / "deployments").exists()


def test_a_damaged_program_keeps_layers_from_being_named_and_nothing_else(made: pipeline.Build, tmp_path: Path) -> None:
    copied = pipeline.read_build(shutil.copytree(made.path, tmp_path / "build"))
    (copied.path / program_file("int8-static")).write_bytes(b"PK")
    pte = [one for one in copied.manifest.artifacts if one.name == "tiny.int8-static.pte"]
    (row,) = _seen(copied, WrongKernel(tmp_path, _weights(made, "wide")), pte).parity.rows
    assert row.verdict == "diverges"
    assert row.search is not None
    assert "is not read by torch" in row.search.notes[0]


def _parity(made: pipeline.Build, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeq", "parity", str(made.path), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_outputs_that_nobody_expects_exit_with_5_and_the_report_shows_them(
    made: pipeline.Build, tmp_path: Path
) -> None:
    copied = pipeline.read_build(shutil.copytree(made.path, tmp_path / "build"))
    name = "tiny.int8-static.onnx"
    outputs = copied.path / "evaluation" / "host" / f"{name}.npy"
    np.save(outputs, -np.load(outputs))
    done = _parity(copied, "--device", "local,nobody", "--artifact", "int8-static", "--samples", "2", "--json")
    assert done.returncode == 5, done.stderr
    said = json.loads(done.stdout)
    assert [(row["artifact"], row["verdict"]) for row in said["rows"]] == [
        ("tiny.int8-static.pte", "identical"), (name, "diverges"),
    ]  # fmt: skip
    assert [bool(one["error"]) for one in said["devices"]] == [False, True]
    search = said["rows"][1]["search"]
    assert (search["first_diverging"], search["between"]) == ("", [])
    assert json.loads((copied.path / "parity.json").read_text()) == said
    assert "Devices against" not in (text := pipeline.report([copied.path], formats=["md"]).files[0].read_text())
    assert name in text
    assert "no layer that was looked at diverges" in text


def test_a_device_that_fails_has_its_own_row_and_status(made: pipeline.Build) -> None:
    done = _parity(made, "--device", "local,nobody", "--artifact", "tiny.int8-static.onnx", "--samples", "0")
    assert done.returncode == 2, done.stderr
    assert "bit for bit" in done.stdout
    assert "unknown device" in done.stdout


@pytest.mark.skipif(
    any(shutil.which(program) is None for program, _ in board.PROGRAMS), reason="an emulated board needs QEMU"
)
def test_int8_is_the_same_bit_for_bit_on_cores_with_and_without_a_dot_product(made: pipeline.Build) -> None:
    done = _parity(made, "--device", "board:rpi4,board:rpi5", "--artifact", "int8-static", "--samples", "2", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 6
    assert {row["verdict"] for row in rows} == {"identical"}
