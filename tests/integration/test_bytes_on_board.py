"""A project whose artifacts take bytes, by ``edgeq run`` on an emulated board, beside the same without."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from device_help import run_edgeq

from edgeq.evaluation import EvaluationSet
from edgeq.pipeline import read_build

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.pipeline import Build

SAMPLES = 12

PROJECT = """
[model]
name = "tiny"
factory = "tiny.py:load"
inputs = [{ shape = [1, 3, 16, 16] }]
[data]
calibration = "tiny.py:calibration"
evaluation = "tiny.py:evaluation"
[preprocess]
layout = "LAYOUT"
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
folded = FOLDED
"""

CODE = f"""
import torch

MEAN = torch.tensor([123.675, 116.28, 103.53]).reshape(1, 3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).reshape(1, 3, 1, 1)

def load():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 3, stride=2, padding=1), torch.nn.ReLU6(), torch.nn.Conv2d(16, 16, 3)]
    return torch.nn.Sequential(*layers, torch.nn.ReLU6(), torch.nn.Flatten(), torch.nn.Linear(16 * 6 * 6, 10)).eval()

def images(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range({SAMPLES}):
        raw = torch.randint(0, 256, (1, 3, 16, 16), generator=generator)
        raw[0, :, 0, 0], raw[0, :, 0, 1] = 0, 255
        yield ((raw - MEAN) / STD,)

def calibration():
    return images(1)

def evaluation():
    for index, image in enumerate(images(2)):
        yield image, index % 10
"""


def _edgeq(*args: object, cwd: Path) -> dict[str, Any]:
    done = run_edgeq(*args, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _project(folder: Path, *, layout: str, folded: bool) -> Path:
    folder.mkdir()
    (folder / "edgeq.toml").write_text(PROJECT.replace("LAYOUT", layout).replace("FOLDED", str(folded).lower()))
    (folder / "tiny.py").write_text(CODE)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Build:
    home = tmp_path_factory.mktemp("plain")
    _edgeq("build", _project(home / "tiny", layout="NCHW", folded=False), "--out", home / "out", cwd=home)
    return read_build(home / "out")


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, dict[str, Any]]:
    home = tmp_path_factory.mktemp("folded")
    report = _edgeq("run", _project(home / "tiny", layout="NHWC", folded=True), "--target", "rpi4", cwd=home)
    return read_build(home / "build/tiny/rpi4"), report


def test_the_board_answers_to_bytes_as_this_machine_does(folded: tuple[Build, dict[str, Any]]) -> None:
    _, report = folded
    assert {row["artifact"] for row in report["rows"]} == {
        f"tiny.{recipe}.{form}" for recipe in ("fp32", "int8-static") for form in ("pte", "onnx")
    }
    for row in report["rows"]:
        assert (row["samples"], row["host_agreement"]) == (SAMPLES, 1.0)


def test_the_outputs_are_those_of_the_artifacts_that_take_floats(
    plain: Build, folded: tuple[Build, dict[str, Any]]
) -> None:
    for artifact in plain.manifest.artifacts:
        expected, outputs = (
            EvaluationSet.of(one.path, one.manifest).host_outputs(artifact.name) for one in (plain, folded[0])
        )
        step = (expected.max() - expected.min()) / 255 if artifact.recipe != "fp32" else 1e-5 * np.abs(expected).max()
        assert np.abs(outputs - expected).max() <= step


def test_a_quarter_of_the_bytes_goes_to_the_device(plain: Build, folded: tuple[Build, dict[str, Any]]) -> None:
    sizes = []
    for one in (plain, folded[0]):
        evaluation = EvaluationSet.of(one.path, one.manifest)
        (sent,) = {sum(array.nbytes for array in sample) for sample in evaluation}
        golden = one.manifest.artifacts[0].golden.input_sha256
        assert (one.path / "golden" / f"{golden}.bin").stat().st_size == sent
        sizes.append(sent)
    assert sizes == [16 * 16 * 3 * 4, 16 * 16 * 3]


def test_the_manifest_says_that_nothing_is_left_to_the_app(plain: Build, folded: tuple[Build, dict[str, Any]]) -> None:
    assert {artifact.folded for artifact in plain.manifest.artifacts} == {None}
    for artifact in folded[0].manifest.artifacts:
        (taken,) = artifact.inputs
        assert (taken.dtype, taken.shape) == ("uint8", (1, 16, 16, 3))
        left = artifact.preprocess
        assert left is not None
        assert (left.layout, left.mean, left.std, left.folded) == ("NHWC", (0.0,) * 3, (1.0,) * 3, True)
        assert artifact.folded is not None
        assert artifact.folded.mean == (123.675, 116.28, 103.53)
        assert artifact.folded.form == ("subtracted" if artifact.recipe == "fp32" else "computed")
        assert any(artifact.name in said and "takes bytes as NHWC" in said for said in folded[0].manifest.findings)
