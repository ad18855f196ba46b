"""``edgeq compare`` on real runners: one that is slow by a known share, and counts on an emulated board."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from device_help import built, toml

from edgeq import pipeline, runner
from edgeq.device.local import LocalTransport
from edgeq.progress import Silent
from edgeq.stages.bench import settings
from edgeq.stages.compare import Contender, compare, pair_up
from edgeq.stages.deploy import deploy

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = toml(size=64, formats=["pte"])

CODE = """
import torch


def load():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, {width}, 3), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()


def evaluation():
    for index in range(4):
        yield (torch.randn(1, 3, 64, 64),), index


calibration = evaluation
"""


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[pipeline.Build, pipeline.Build]:
    """One network, and one whose second layer is a quarter wider."""
    before, after = (tmp_path_factory.mktemp(name) for name in ("before", "after"))
    return built(before, PROJECT, CODE.replace("{width}", "32")), built(after, PROJECT, CODE.replace("{width}", "40"))


def _cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeq", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_runner_that_takes_four_times_as_long_is_slower(
    builds: tuple[pipeline.Build, pipeline.Build], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = builds[0]
    bundles = {"executorch": runner.bundle("executorch", "x86_64-linux-gnu", progress=Silent(), test_faults=True)}
    transport = LocalTransport(tmp_path)
    contenders = []
    for side in ("plain", "slowed"):
        manifest = replace(what.manifest, model=side)
        done = deploy(what.path, manifest, what.target, transport, bundles, device="local", progress=Silent())
        (tmp_path / side).symlink_to(tmp_path / done.deployment.root)
        contenders.append(Contender(build=what.path, manifest=manifest, deployment=replace(done.deployment, root=side)))
    pairs = pair_up([(one.build, one.manifest) for one in contenders], ()).pairs
    how = settings(what.target, contenders[0].deployment, threads=(1,), force=True)
    monkeypatch.setenv("EDGEQ_TEST_SPIN_PERCENT", "300")
    monkeypatch.setenv("EDGEQ_TEST_MODEL", "slowed")
    (slower,) = compare(contenders, pairs, transport, how, progress=Silent())
    (faster,) = compare(contenders[::-1], pairs, transport, how, progress=Silent())
    assert (slower.verdict, faster.verdict) == ("slower", "faster")
    assert slower.test_faults
    assert slower.ratio is not None
    assert slower.ratio == pytest.approx(1 / 4, rel=0.3)


def test_an_emulated_board_tells_more_work_from_the_same(
    builds: tuple[pipeline.Build, pipeline.Build], tmp_path: Path
) -> None:
    before, after = (one.path for one in builds)
    copy = shutil.copytree(before, tmp_path / "copy")
    done = _cli(before, copy, after, "--device", "board:rpi4", "--json")
    assert done.returncode == 0, done.stderr
    same, more = json.loads(done.stdout)["rows"]
    assert (same["cost"], more["cost"]) == ("same", "more")
    assert same["instructions_ratio"] == pytest.approx(1, abs=0.001)
    assert 1.1 < more["instructions_ratio"] < 1.4
    for row in (same, more):
        assert (row["ratio"], row["low"], row["high"], row["verdict"]) == (None, None, None, "cannot tell")
    assert (after / "comparisons.jsonl").is_file()


def test_on_this_machine_a_build_and_its_copy_have_a_ratio_and_an_interval(
    builds: tuple[pipeline.Build, pipeline.Build], tmp_path: Path
) -> None:
    before = builds[0].path
    copy = shutil.copytree(before, tmp_path / "copy")
    done = _cli(before, copy, "--device", "local", "--threads", "1", "--force", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["low"] <= row["ratio"] <= row["high"]
    assert row["verdict"] in {"faster", "slower", "same", "cannot tell"}
    assert len(row["candidate"]["latencies_ns"]) == 200
    assert row["smallest_effect"] > 0


def test_builds_that_cannot_be_compared_say_what_to_do(builds: tuple[pipeline.Build, pipeline.Build]) -> None:
    alone = _cli(builds[0].path, "--device", "local")
    assert alone.returncode == 2
    assert "name a second build" in alone.stderr
    missing = _cli(builds[0].path, builds[0].path / "nowhere", "--device", "local")
    assert missing.returncode == 2
    assert "is not a build" in missing.stderr
