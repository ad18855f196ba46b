"""The search for a recipe, on real artifacts: what it keeps, what it says, and that it tries nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TOML = """
[model]
name = "wild"
factory = "project.py:load"
inputs = [{ shape = [1, 8, 12, 12] }]
[data]
calibration = "project.py:calibration"
evaluation = "project.py:evaluation"
[build]
formats = ["pte"]
"""

PROJECT = """
import torch
from torch import nn

CLASSES, SAMPLES = 10, 4000
CLEAR = 0.6


class Block(nn.Module):
    def __init__(self, channels, spread):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        # Channels of one tensor that span many octaves: a single scale suits none of them.
        factors = torch.logspace(-spread, spread, channels, base=2.0)[torch.randperm(channels)]
        with torch.no_grad():
            self.depthwise.weight.mul_(factors.reshape(-1, 1, 1, 1))
            self.depthwise.bias.mul_(factors)
            self.pointwise.weight.div_(factors.reshape(1, -1, 1, 1))

    def forward(self, x):
        return torch.relu(self.pointwise(torch.relu(self.depthwise(x))))


class Wild(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(8, 5), Block(8, 0), Block(8, 0))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.blocks(x).mean((2, 3)))


def load():
    torch.manual_seed(0)
    model = Wild().eval()
    with torch.no_grad():
        # Answers of all classes: the head reads how far features are from what is usual.
        features = torch.cat([model.blocks(image).mean((2, 3)) for image in images(200, 3)])
        model.head.weight.copy_(torch.randn(CLASSES, 8) / features.std(0).clamp(min=1e-6))
        model.head.bias.copy_(-model.head.weight @ features.mean(0))
    return model


def images(count, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.randn(1, 8, 12, 12, generator=generator) * torch.rand(1, 8, 1, 1, generator=generator) * 3


def calibration():
    return ((image,) for image in images(64, 1))


def evaluation():
    # The float model's own answers: it is always right, and what int8 changes is what int8 loses.
    model = load()
    with torch.no_grad():
        for image in images(SAMPLES, 2):
            first, second = model(image).flatten().topk(2).values
            if first - second > CLEAR:
                yield (image,), int(model(image).argmax())
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "edgeq.toml").write_text(TOML)
    (folder / "project.py").write_text(PROJECT)
    return folder


def _command(project: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "edgeq", "build", str(project), "--target", "rpi4", "--json"),
        *("--out", str(project.parent / "out"), *options),
    ]


def _build(project: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(_command(project, *options), capture_output=True, text=True, timeout=280, check=False)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_auto_keeps_the_budget_in_int8_alone_where_a_technique_suffices(project: Path) -> None:
    code, document, told = _build(project, "--recipe", "auto", "--max-drop", "0.5")

    (search,) = document["searches"]
    assert code == 0, told
    assert search["outcome"] == "met"
    first, *_, last = [trial for trial in search["trials"] if trial["outcome"] != "skipped"]
    assert (first["recipe"], first["outcome"]) == ("int8-static", "missed")
    assert first["drop_pp"] > 0.5
    assert (last["outcome"], last["recipe"]) == ("met", search["chosen"])
    assert last["drop_pp"] <= 0.5
    (artifact,) = (one for one in document["artifacts"] if one["recipe"] == "auto")
    assert artifact["host"]["correct"] == last["correct"]
    assert artifact["int8_mac_share"] == 1.0
    assert all(trial["seconds"] > 0 and trial["size_bytes"] for trial in (first, last))


def test_int8_mixed_leaves_the_layers_that_hurt_in_float_and_no_more_than_it_must(project: Path) -> None:
    code, document, told = _build(project, "--recipe", "int8-mixed", "--max-drop", "0.5")

    (search,) = document["searches"]
    assert code == 0, told
    assert search["outcome"] == "met"
    assert search["keep_float"]
    (artifact,) = (one for one in document["artifacts"] if one["recipe"] == "int8-mixed")
    assert 0.5 <= artifact["int8_mac_share"] < 1.0
    met = [trial for trial in search["trials"] if trial["outcome"] == "met"]
    assert min(trial["float_macs"] for trial in met) == round(artifact["macs"] * (1 - artifact["int8_mac_share"]))


def test_a_budget_that_nothing_keeps_is_exit_5_with_the_best_that_was_found(project: Path) -> None:
    (project / "project.py").write_text(PROJECT.replace("Block(8, 5), Block(8, 0)", "Block(8, 9), Block(8, 9)"))
    code, document, told = _build(project, "--recipe", "int8-mixed", "--max-drop", "0.34")

    (search,) = document["searches"]
    if search["outcome"] == "met":
        pytest.fail(f"the case is too easy: {search}")
    assert code == 5
    assert "no recipe keeps 0.34 pp; the best, " in told
    best = min((t for t in search["trials"] if t["drop_pp"] is not None), key=lambda t: t["drop_pp"])
    assert search["chosen"] == best["recipe"]
    assert (project.parent / "out" / "wild.int8-mixed.pte").is_file()


def test_too_few_samples_are_an_answer_and_nothing_slower_is_tried_on_them(project: Path) -> None:
    few = PROJECT.replace("SAMPLES = 10, 4000", "SAMPLES = 10, 120").replace("CLEAR = 0.6", "CLEAR = 0.1")
    (project / "project.py").write_text(few.replace("Block(8, 5)", "Block(8, 0)"))
    code, document, _ = _build(project, "--recipe", "auto", "--max-drop", "0.1")

    (search,) = document["searches"]
    assert code == 0
    assert search["outcome"] == "cannot tell"
    assert re.fullmatch(r"\d{3} samples cannot show 0.1 pp; 5,000 could", search["reason"])
    assert not any(trial["keep_float"] for trial in search["trials"])


def test_a_search_that_was_killed_tries_nothing_twice(project: Path) -> None:
    journal = project.parent / "cache" / "search"
    running = subprocess.Popen(
        _command(project, "--recipe", "auto", "--max-drop", "0.5"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(journal.glob("*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    (written,) = journal.glob("*.jsonl")
    before = len(written.read_text().splitlines())
    assert not (project.parent / "out").exists()

    code, document, told = _build(project, "--recipe", "auto", "--max-drop", "0.5")
    assert code == 0, told
    trials = [trial for trial in document["searches"][0]["trials"] if trial["outcome"] != "skipped"]
    assert [trial["resumed"] for trial in trials[:before]] == [True] * before
    assert not any(trial["resumed"] for trial in trials[before:])
    assert len(trials) > before
