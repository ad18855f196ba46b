"""A second build: nothing is done where nothing has changed, and everything where anything has."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeq import world
from edgeq.errors import LabelsError
from edgeq.project import load_project
from edgeq.stages import reuse
from edgeq.stages.planning import plan
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeq.stages.planning import Plan

MODEL = """
import torch
from pathlib import Path

def load():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 4))
    model.load_state_dict(torch.load(Path(__file__).parent / "weights.pt"))
    return model.eval()

def calibration():
    generator = torch.Generator().manual_seed(1)
    for _ in range(8):
        yield (torch.rand(1, 1, 8, 8, generator=generator),)

def evaluation():
    for index, (sample,) in enumerate(calibration()):
        yield (sample,), index % 4
"""
WEIGHTS = """
import sys, torch
torch.manual_seed(int(sys.argv[2]))
model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 4))
torch.save(model.state_dict(), sys.argv[1])
"""
SETTINGS = """
[model]
name = "small"
factory = "model.py:load"
inputs = [{ shape = [1, 1, 8, 8] }]
[data]
calibration = "model.py:calibration"
evaluation = "model.py:evaluation"
[build]
formats = ["onnx"]
"""


def _python(*arguments: object) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True, text=True)
    return done.stdout


def _build(project: Path, out: Path, *options: str) -> dict[str, Any]:
    command = ("-m", "edgeq", "build", project, "--out", out, "--json", "--jobs", "1", *options)
    answer: dict[str, Any] = json.loads(_python(*command))
    return answer


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "model.py").write_text(MODEL)
    (folder / "edgeq.toml").write_text(SETTINGS)
    _python("-c", WEIGHTS, folder / "weights.pt", 1)
    return folder


@pytest.fixture(scope="module")
def built(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("builds") / "small"
    assert not _build(project, out)["reused"]
    return out


def _plan(
    project: Path, *, recipes: Sequence[str] = (), formats: Sequence[Any] = (), target: str = "rpi4", jobs: int = 1
) -> Plan:
    return plan(load_project(project), load_target(target), recipes=recipes, formats=formats, jobs=jobs)


def test_scoring_in_another_process_changes_no_byte(project: Path, built: Path, tmp_path: Path) -> None:
    _build(project, tmp_path / "beside", "--jobs", "2", "--rebuild")
    for path in built.rglob("*"):
        if path.is_file() and path.name not in ("manifest.json", "inputs.json"):
            assert path.read_bytes() == (tmp_path / "beside" / path.relative_to(built)).read_bytes(), path
    here, beside = (json.loads((folder / "manifest.json").read_bytes()) for folder in (built, tmp_path / "beside"))
    assert {**here, "created_at": ""} == {**beside, "created_at": ""}


def test_nothing_is_done_again_and_torch_is_not_even_imported(project: Path, built: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from edgeq import pipeline;"
        "built = pipeline.build(Path(sys.argv[1]), out=Path(sys.argv[2]));"
        "print(built.reused, 'torch' in sys.modules)"
    )
    before = (built / "manifest.json").stat()
    assert _python("-c", script, project, built).split() == ["True", "False"]
    assert (built / "manifest.json").stat().st_mtime_ns == before.st_mtime_ns


def test_a_build_that_was_moved_is_still_the_same(project: Path, built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "elsewhere")
    assert reuse.unchanged(_plan(project), tmp_path / "elsewhere").manifest


def test_the_same_recipes_given_by_name_are_the_same_request(project: Path, built: Path) -> None:
    assert reuse.unchanged(_plan(project, recipes=["int8-static"], formats=["onnx"]), built).manifest


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"target": "rpi5"}, "the target is another one"),
        ({"recipes": ["int8-dynamic"]}, "the set of recipes is another one"),
        ({"formats": ["pte"]}, "the set of formats is another one"),
        ({"jobs": 3}, "the number of threads is another one"),
    ],
)
def test_another_request_is_built(asked: dict[str, Any], why: str, project: Path, built: Path) -> None:
    assert reuse.unchanged(_plan(project, **asked), built).why_not == why


def test_another_budget_is_another_request_to_a_search(project: Path) -> None:
    asked = _plan(project, recipes=["auto"])
    stricter = replace(asked.project, limits=replace(asked.project.limits, max_drop_pp=1.0))
    assert reuse.request(replace(asked, project=stricter)) != reuse.request(asked)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["small.fp32.onnx", "evaluation/labels.npy", "manifest.json", "target.json"])
@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink])
def test_a_damaged_build_is_made_anew(
    damage: Callable[[Path], object], name: str, project: Path, built: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    damage(copy / name)
    assert reuse.unchanged(_plan(project), copy).manifest is None


def test_a_cut_record_is_no_record(project: Path, built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "copy")
    _cut(tmp_path / "copy" / "inputs.json")
    (tmp_path / "copy" / "inputs.json").write_text("{")
    assert reuse.unchanged(_plan(project), tmp_path / "copy").manifest is None


@pytest.mark.parametrize("part", ["edgeq", "Python", "the set of installed packages", "the processor"])
def test_other_tools_make_another_build(part: str, project: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = {**world.machine(), part: "another"}
    monkeypatch.setattr(world, "machine", lambda: now)
    assert reuse.unchanged(_plan(project), built).why_not == f"{part} has changed"


def test_files_that_were_touched_are_read_once_and_then_trusted_again(
    project: Path, built: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    written = []
    for _ in range(3):
        assert reuse.unchanged(_plan(project), copy).manifest
        written.append((copy / "inputs.json").read_bytes())
        time.sleep(1.1 * world.TICK_NS / 1e9)
    assert written[0] != written[1]  # the copy was too young to be trusted by then
    assert written[1] == written[2]


def test_other_weights_are_built_and_a_kill_leaves_the_old_build_with_the_old_record(
    project: Path, tmp_path: Path
) -> None:
    own, out = tmp_path / "project", tmp_path / "build"
    shutil.copytree(project, own)
    first = _build(own, out)
    _python("-c", WEIGHTS, own / "weights.pt", 2)

    with subprocess.Popen(
        [sys.executable, "-m", "edgeq", "build", str(own), "--out", str(out), "--jobs", "1"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("lowering"):
                os.kill(process.pid, signal.SIGKILL)
                break
    assert said[0].startswith("building anew: ")
    assert "weights.pt has changed" in said[0]

    left = json.loads((out / "manifest.json").read_bytes())
    assert left["artifacts"] == first["artifacts"]
    assert "weights.pt has changed" in reuse.unchanged(_plan(own), out).why_not
    second = _build(own, out)
    assert not second["reused"]
    assert second["artifacts"][0]["sha256"] != first["artifacts"][0]["sha256"]
    assert _build(own, out)["reused"]
    assert not _build(own, out, "--rebuild")["reused"]


def test_other_limits_are_written_into_the_build_that_is_there(project: Path, built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    asked = _plan(project)
    asked = replace(asked, project=replace(asked.project, limits=replace(asked.project.limits, max_drop_pp=1.5)))
    found = reuse.unchanged(asked, copy)
    assert found.manifest is not None
    assert found.manifest.limits == asked.project.limits
    assert json.loads((copy / "manifest.json").read_bytes())["limits"]["max_drop_pp"] == 1.5
    assert reuse.unchanged(asked, copy).manifest == found.manifest
    assert reuse.unchanged(_plan(project), copy).manifest


def test_other_labels_are_written_into_the_build_that_is_there(project: Path, built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    asked = _plan(project)
    named = replace(asked.project.model, labels=("a", "b", "c", "d"))
    found = reuse.unchanged(replace(asked, project=replace(asked.project, model=named)), copy)
    assert found.manifest is not None
    assert found.manifest.labels == ("a", "b", "c", "d")
    assert json.loads((copy / "manifest.json").read_bytes())["labels"] == ["a", "b", "c", "d"]
    with pytest.raises(LabelsError, match="3 names for 4 classes"):
        reuse.unchanged(replace(asked, project=replace(asked.project, model=replace(named, labels=("a",) * 3))), copy)


def test_labels_that_do_not_fit_the_model_are_refused_when_it_is_built(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "project"
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("build", ".edgeq"))
    text = (other / "edgeq.toml").read_text().replace("[data]", 'labels = ["a", "b"]\n[data]')
    (other / "edgeq.toml").write_text(text)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _build(other, tmp_path / "out")
    assert caught.value.returncode == 2
    assert "2 names for 4 classes" in caught.value.stderr
    assert not (tmp_path / "out").exists()


def test_a_build_for_another_folder_is_copied_with_nothing_that_came_after_it(
    project: Path, built: Path, tmp_path: Path
) -> None:
    (built / "measurements.jsonl").write_text("{}\n")
    out = tmp_path / "elsewhere"
    try:
        found = reuse.copied(_plan(project), out)
    finally:
        (built / "measurements.jsonl").unlink()
    assert found.manifest is not None
    assert not (out / "measurements.jsonl").exists()
    assert reuse.unchanged(_plan(project), out).manifest == found.manifest


def test_other_limits_of_a_copy_are_not_those_of_where_it_came_from(project: Path, built: Path, tmp_path: Path) -> None:
    before = (built / "manifest.json").read_bytes()
    asked = _plan(project)
    asked = replace(asked, project=replace(asked.project, limits=replace(asked.project.limits, max_drop_pp=1.5)))
    found = reuse.copied(asked, tmp_path / "elsewhere")
    assert found.manifest is not None
    assert found.manifest.limits == asked.project.limits
    assert (built / "manifest.json").read_bytes() == before


def test_what_is_no_build_is_not_replaced_by_a_copy(project: Path, built: Path, tmp_path: Path) -> None:
    assert built.is_dir()
    (tmp_path / "holiday.jpg").write_text("dear to somebody")
    assert reuse.copied(_plan(project), tmp_path).manifest is None
    assert (tmp_path / "holiday.jpg").exists()
