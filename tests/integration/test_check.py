"""``edgeq check`` and ``edgeq history`` as a person uses them: a network is changed, and the gate notices."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from device_help import board_address, toml

from edgeq import pipeline
from edgeq.device import board
from edgeq.device.ssh import SshTransport
from edgeq.progress import Silent
from edgeq.target import load_target

ARTIFACT = "tiny.int8-static.pte"

LIMITS = """
[limits]
min_int8_mac_share = 0.95
max_size_bytes = 1_000_000
"""

CODE = """
import torch

def load():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU6(), torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU6()]
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 10)]
    return torch.nn.Sequential(*layers, *head).eval()

def _inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(24):
        yield torch.randn(1, 3, 16, 16, generator=generator)

def calibration():
    for inputs in _inputs(1):
        yield (inputs,)

def evaluation():
    for index, inputs in enumerate(_inputs(2)):
        yield (inputs,), index % 10
"""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A project in a git repository, and what its two builds were called."""

    project: Path
    before: Path
    after: Path

    def edgeq(self, *arguments: object, exits: int = 0) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if name != "EDGEQ_HISTORY"}
        done = subprocess.run(
            [sys.executable, "-m", "edgeq", *map(str, arguments)], capture_output=True, text=True, check=False, env=env
        )
        assert done.returncode == exits, done.stdout + done.stderr
        return done

    def json(self, *arguments: object, exits: int = 0) -> Any:
        return json.loads(self.edgeq(*arguments, "--json", exits=exits).stdout)

    def commit(self, words: str) -> str:
        settings = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
        for command in (["add", "edgeq.toml", "tiny.py"], ["commit", "-q", "-m", words]):
            subprocess.run(["git", "-C", str(self.project), *settings, *command], check=True)
        found = subprocess.run(["git", "-C", str(self.project), "rev-parse", "HEAD"], capture_output=True, check=True)
        return found.stdout.decode().strip()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Two commits: hard-swish takes the place of ReLU6. Each is built and measured on an emulated board."""
    root = tmp_path_factory.mktemp("shop")
    made = Shop(project=root / "project", before=root / "before", after=root / "after")
    made.project.mkdir()
    subprocess.run(["git", "init", "-q", str(made.project)], check=True)
    (made.project / "edgeq.toml").write_text(toml(formats=["pte"], recipes=["int8-static"]) + LIMITS)
    for out, code in ((made.before, CODE), (made.after, CODE.replace("nn.ReLU6()", "nn.Hardswish()"))):
        (made.project / "tiny.py").write_text(code)
        made.commit(out.name)
        made.edgeq("build", made.project, "--out", out, "--jobs", 1)
    _measure(made.before, made.after)
    return made


def _measure(*builds: Path) -> None:
    """Measure each on an emulated board of this module's own, and remember it in the project's history."""
    name = f"check-{os.getpid()}"
    running = board.start(load_target("rpi4"), name=name, progress=Silent())
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.closing(SshTransport.connect(board_address(running, running.user))) as device,
        ):
            patch.delenv("EDGEQ_HISTORY")
            for path in builds:
                build = pipeline.read_build(path)
                pipeline.deploy(build, device, device="board")
                pipeline.bench(build, device, pipeline.BenchOptions(samples=8), device="board")
                assert pipeline.remember(build).why_not == ""
    finally:
        board.stop(name)


def test_a_network_that_became_slower_fails_against_the_build_before(shop: Shop) -> None:
    result = shop.json("check", shop.after, "--against", shop.before, "--device", "board", exits=5)
    outcomes = {one["figure"]: one["outcome"] for one in result["changes"] if one["artifact"] == ARTIFACT}
    assert result["passed"] is False
    assert outcomes["instructions"] == "worse"
    assert "p50_ms" not in outcomes
    assert [one["outcome"] for one in result["limits"]] == ["met", "met"]


def test_the_history_finds_the_same_and_the_other_way_round_it_is_better(shop: Shop) -> None:
    found = shop.json("check", shop.after, "--against", "history", exits=5)
    session = next(one["id"] for one in shop.json("history", shop.project)["sessions"])
    back = shop.json("check", shop.after, "--against", f"history:{session}", exits=5)
    assert found["changes"] == back["changes"]
    ahead = shop.json("check", shop.before, "--against", shop.after)
    assert "better" in {one["outcome"] for one in ahead["changes"] if one["figure"] == "instructions"}


def test_the_history_names_commits_and_outlives_the_builds(shop: Shop) -> None:
    shown = shop.json("history", shop.project)
    assert shown["place"] == str(shop.project / ".edgeq" / "history.db")
    points = next(one["points"] for one in shown["series"] if one["artifact"] == ARTIFACT)
    commits = subprocess.run(
        ["git", "-C", str(shop.project), "log", "--reverse", "--format=%H"], capture_output=True, text=True, check=True
    )
    assert [point["commit"] for point in points] == commits.stdout.split()
    assert not any(point["dirty"] for point in points)


def test_a_saved_baseline_passes_what_it_was_saved_of_and_files_say_so(shop: Shop, tmp_path: Path) -> None:
    saved = tmp_path / "baseline.json"
    shop.edgeq("check", shop.before, "--save", saved)
    shown = shop.edgeq("check", shop.before, "--against", saved, "--out", tmp_path)
    assert "passed" in shown.stdout
    assert "**passed: " in (tmp_path / "check.md").read_text()
    failed = shop.edgeq("check", shop.after, "--against", saved, "--format", "junit", "--out", tmp_path, exits=5)
    assert "edgeq: " in failed.stderr
    suite = ET.parse(tmp_path / "check.xml").getroot()[0]  # noqa: S314  # our own
    assert int(suite.get("failures", "0")) >= 1


def test_a_limit_that_is_tightened_fails_without_a_baseline_and_without_a_build(shop: Shop) -> None:
    text = (shop.project / "edgeq.toml").read_text()
    (shop.project / "edgeq.toml").write_text(text.replace("1_000_000", "1_000"))
    try:
        shop.edgeq("build", shop.project, "--out", shop.after, exits=5)
        result = shop.json("check", shop.after, exits=5)
    finally:
        (shop.project / "edgeq.toml").write_text(text)
    assert [one["outcome"] for one in result["limits"] if one["limit"] == "max_size_bytes"] == ["missed"]


def test_measurements_are_not_lost_when_the_history_cannot_be_written(shop: Shop) -> None:
    (shop.project / ".edgeq" / "history.db").rename(shop.project / ".edgeq" / "kept")
    (shop.project / ".edgeq" / "history.db").write_text("what a crash left " * 100)
    try:
        shop.edgeq("deploy", shop.before, "--device", "local")
        done = shop.edgeq("bench", shop.before, "--device", "local", "--samples", 4, "--repeats", 5, "--force")
        assert "warning: not in the history: " in done.stderr
        assert "move the file away" in done.stderr
    finally:
        (shop.project / ".edgeq" / "kept").rename(shop.project / ".edgeq" / "history.db")
    rows = (shop.before / "measurements.jsonl").read_text().splitlines()
    assert {json.loads(row)["device"] for row in rows} == {"board", "local"}
