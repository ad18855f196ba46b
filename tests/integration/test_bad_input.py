"""What a person sees of a mistake: one message, its exit code, no traceback, and what was there before still whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

EDGEQ_TOML = """
[model]
name = "tiny"
factory = "project.py:load"
inputs = [{ shape = [1, 3, 16, 16] }]
[data]
calibration = "project.py:calibration"
evaluation = "project.py:evaluation"
[build]
recipes = ["int8-static"]
"""

PROJECT = """
import torch

SEED = torch.Generator().manual_seed(0)
IMAGES = torch.rand(8, 1, 3, 16, 16, generator=SEED)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU6(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        )
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(x))


def load():
    torch.manual_seed(0)
    return Net()


def calibration():
    for image in IMAGES:
        yield (image,)


def evaluation():
    for index, image in enumerate(IMAGES):
        yield (image,), index % 4
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    status: int
    out: str
    err: str


def _edgeq(*args: object, cwd: Path) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-m", "edgeq", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=300,
    )
    return Outcome(status=done.returncode, out=done.stdout, err=done.stderr)


def _project(folder: Path, code: str = PROJECT, toml: str = EDGEQ_TOML) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "edgeq.toml").write_text(toml)
    (folder / "project.py").write_text(code)
    return folder


@pytest.fixture(scope="module")
def good_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("good")
    done = _edgeq("build", _project(home / "tiny"), "--target", "rpi4", "--out", home / "out", cwd=home)
    assert done.status == 0, done.err
    return home / "out"


def _refused(done: Outcome, status: int, *words: str) -> None:
    assert done.status == status, done.err
    assert "Traceback" not in done.err
    last = done.err.split("edgeq: ")[-1]
    for word in words:
        assert word in last, done.err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("    return Net()", "    return {'not': 'a model'}", ["returned dict, not a torch.nn.Module"]),
        ("    return Net()", "    raise RuntimeError('no weights')", ["RuntimeError: no weights", "project.py"]),
        ("Conv2d(3, 8", "Conv2d(1, 8", ["fails on inputs of shape [1, 3, 16, 16]"]),
        (
            "    return Net()",
            "    net = Net()\n    net.head.weight.data[0, 0] = float('nan')\n    return net",
            ["NaN or infinity in head.weight"],
        ),
        (
            "return self.head(self.body(x))",
            "return self.head(self.body(x)) if float(x.sum()) > 0 else x",
            ["project.py", "export"],
        ),
        ("    for image in IMAGES:\n        yield (image,)", "    return iter(())", ["calibration", "no sample"]),
        ("yield (image,), index % 4", "yield (image,), None", ["no label"]),
        ("yield (image,), index % 4", "yield (image[:, :1],), 0", ["sample 0", "[1, 1, 16, 16]"]),
        ("yield (image,), index % 4", "yield (image.double(),), 0", ["sample 0", "float64"]),
    ],
    ids=[
        "a factory of something else",
        "a factory that raises",
        "a wrong shape",
        "NaN in the weights",
        "what cannot be exported",
        "no calibration sample",
        "no label",
        "a sample of another shape",
        "a sample of another dtype",
    ],
)
def test_a_mistake_in_the_project_is_said_in_one_message(
    tmp_path: Path, good_build: Path, old: str, new: str, words: list[str]
) -> None:
    assert old in PROJECT
    out = tmp_path / "out"
    shutil.copytree(good_build, out)
    before = (out / "manifest.json").read_bytes()
    done = _edgeq("build", _project(tmp_path / "tiny", PROJECT.replace(old, new)), "--out", out, cwd=tmp_path)
    _refused(done, 2, *words)
    assert (out / "manifest.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "out"}


def test_inputs_with_channels_last_strides_build_and_run(tmp_path: Path) -> None:
    code = PROJECT.replace("yield (image,)", "yield (image.contiguous(memory_format=torch.channels_last),)")
    done = _edgeq("build", _project(tmp_path / "tiny", code), "--out", tmp_path / "out", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    artifacts = json.loads(done.out)["artifacts"]
    assert all(artifact["host"]["total"] == 8 for artifact in artifacts)


def test_a_model_with_nothing_to_quantize_builds_and_says_so(tmp_path: Path) -> None:
    code = PROJECT.replace("return self.head(self.body(x))", "return torch.softmax(x[:, 0] @ x[:, 1], -1).mean(1)")
    done = _edgeq("build", _project(tmp_path / "tiny", code), "--out", tmp_path / "out", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    manifest = json.loads(done.out)
    assert len([text for text in manifest["findings"] if "nothing to quantize" in text]) == 2
    assert {artifact["int8_mac_share"] for artifact in manifest["artifacts"]} == {0.0}


def test_an_output_that_is_not_finite_is_a_finding_of_each_artifact(tmp_path: Path) -> None:
    code = PROJECT.replace("return self.head(self.body(x))", "return torch.log(self.head(self.body(x)) - 0.2)")
    project = _project(tmp_path / "tiny", code)
    done = _edgeq("build", project, "--format", "onnx", "--out", tmp_path / "out", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    manifest = json.loads(done.out)
    hosts = [artifact["host"] for artifact in manifest["artifacts"]]
    assert all(0 < host["not_finite"] <= 8 and not host["identical"] for host in hosts)
    found = [text for text in manifest["findings"] if "holds NaN or infinity for" in text]
    assert [text.split(":")[0] for text in found] == ["tiny.fp32.onnx", "tiny.int8-static.onnx"]


def test_a_model_without_any_layer_builds_and_says_that_nothing_is_int8(tmp_path: Path) -> None:
    code = PROJECT.replace("return self.head(self.body(x))", "return torch.softmax(x.mean((2, 3)), -1)")
    done = _edgeq("build", _project(tmp_path / "tiny", code), "--out", tmp_path / "out", "--json", cwd=tmp_path)
    assert done.status == 0, done.err
    manifest = json.loads(done.out)
    assert len([text for text in manifest["findings"] if "no layer and nothing to quantize" in text]) == 2


def test_a_full_disk_ends_with_a_message_and_nothing_half_written(tmp_path: Path) -> None:
    _project(tmp_path / "tiny")
    script = (
        "mkdir disk && mount -t tmpfs -o size=64k edgeq disk && "
        f'"{sys.executable}" -m edgeq build tiny --out disk/out; status=$?; ls -A disk > left; exit $status'
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=300,
    )
    _refused(Outcome(status=done.returncode, out=done.stdout, err=done.stderr), 2, "no space left")
    assert (tmp_path / "left").read_text() == ""


def test_a_corrupted_artifact_is_refused_before_anything_is_sent(tmp_path: Path, good_build: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(good_build, out)
    artifact = out / "tiny.int8-static.pte"
    data = bytearray(artifact.read_bytes())
    data[len(data) // 2] ^= 1
    artifact.write_bytes(data)
    done = _edgeq("deploy", out, "--device", "local", "--json", cwd=tmp_path)
    _refused(done, 2, "tiny.int8-static.pte")
    assert json.loads(done.out)["error"]["exit_code"] == 2


def test_a_folder_that_is_no_build_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"dear to somebody")
    done = _edgeq("build", _project(tmp_path / "tiny"), "--out", out, cwd=tmp_path)
    _refused(done, 2, "photos", "no build", "--out")
    assert (out / "holiday.jpg").read_bytes() == b"dear to somebody"


def test_a_rebuild_keeps_the_measurements_and_what_a_person_put_there(tmp_path: Path, good_build: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(good_build, out)
    (out / "measurements.jsonl").write_text("{}\n")
    (out / "notes").mkdir()
    (out / "notes" / "mine.txt").write_text("why we chose this")
    (out / "report.html").write_text("of the older build")
    (out / "tiny.int8-dropped.pte").write_text("an artifact of the older build")
    done = _edgeq("build", _project(tmp_path / "tiny"), "--out", out, cwd=tmp_path)
    assert done.status == 0, done.err
    assert (out / "measurements.jsonl").read_text() == "{}\n"
    assert (out / "notes" / "mine.txt").read_text() == "why we chose this"
    assert not (out / "report.html").exists()
    assert not (out / "tiny.int8-dropped.pte").exists()


def test_a_damaged_manifest_is_refused(tmp_path: Path, good_build: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(good_build, out)
    (out / "manifest.json").write_bytes((out / "manifest.json").read_bytes()[:100])
    _refused(_edgeq("report", out, cwd=tmp_path), 2, "manifest.json", "damaged")


def test_a_missing_emulator_is_named_with_its_package(tmp_path: Path, good_build: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeq", "bench", str(good_build), "--device", "board"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        timeout=120,
    )
    _refused(Outcome(status=done.returncode, out=done.stdout, err=done.stderr), 3, "qemu", "apt-get install")


def test_run_refuses_a_device_it_cannot_reach_before_it_builds(tmp_path: Path) -> None:
    done = _edgeq("run", _project(tmp_path / "tiny"), "--device", "bord", cwd=tmp_path)
    _refused(done, 2, "bord", "board")
    assert "loading tiny" not in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"tiny"}


def test_an_unknown_device_is_refused_with_what_may_stand_there(tmp_path: Path, good_build: Path) -> None:
    _refused(_edgeq("deploy", good_build, "--device", "bord", cwd=tmp_path), 2, "bord", "board")


def test_a_folder_that_is_no_build_is_refused(tmp_path: Path) -> None:
    _refused(_edgeq("deploy", tmp_path, "--device", "local", cwd=tmp_path), 2, "is not a build", "edgeq build")


def test_ctrl_c_leaves_the_older_build_whole_and_nothing_else(tmp_path: Path, good_build: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(good_build, out)
    code = PROJECT.replace("def load():", "def load():\n    import os, signal\n    os.kill(os.getpid(), signal.SIGINT)")
    done = _edgeq("build", _project(tmp_path / "tiny", code), "--out", out, cwd=tmp_path)
    assert done.status == 130
    assert "Traceback" not in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "out"}
    assert json.loads((out / "manifest.json").read_text())["model"] == "tiny"
