"""The search for a recipe, on real artifacts: what it keeps, what it says, and that it tries nothing twice."""

from __future__ import annotations

import json
import os
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

CLASSES, SAMPLES, NOISE = 10, 1500, 0.25
PROTOTYPES = torch.randn(CLASSES, 8, 1, 1, generator=torch.Generator().manual_seed(5))


class Block(nn.Module):
    def __init__(self, channels, spread):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, 2 * channels, 1)
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
        self.blocks = nn.Sequential(Block(8, 5), Block(16, 0))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.head(self.blocks(x).mean((2, 3)))


def load():
    torch.manual_seed(0)
    model = Wild().eval()
    with torch.no_grad():
        # The head that tells the classes apart, by ridge regression.
        pairs = list(images(600, 3))
        features = torch.cat([model.blocks(image).mean((2, 3)) for image, _ in pairs])
        mean, spread = features.mean(0), features.std(0) + 1e-3
        known = (features - mean) / spread
        wanted = nn.functional.one_hot(torch.tensor([label for _, label in pairs]), CLASSES).float() - 0.1
        weight = torch.linalg.solve(known.T @ known + 20 * torch.eye(32), known.T @ wanted)
        model.head.weight.copy_((weight / spread.unsqueeze(1)).T)
        model.head.bias.copy_(-model.head.weight @ mean)
    return model


def images(count, seed):
    generator = torch.Generator().manual_seed(seed)
    for index in range(count):
        label = index % CLASSES
        noise = NOISE * torch.randn(1, 8, 1, 1, generator=generator)
        yield PROTOTYPES[label] + noise + 0.2 * torch.randn(1, 8, 12, 12, generator=generator), label


def calibration():
    return ((image,) for image, _ in images(64, 1))


def evaluation():
    return (((image,), label) for image, label in images(SAMPLES, 2))
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


def _smooth(project: Path, samples: int = 1500) -> None:
    """Put SiLU where ReLU was: channels cannot be scaled through it, and something has to stay float."""
    text = PROJECT.replace("torch.relu(self.depthwise(x))", "nn.functional.silu(self.depthwise(x))")
    (project / "project.py").write_text(text.replace("1500", str(samples)))


def test_auto_stops_at_the_first_recipe_that_keeps_the_budget_and_says_what_it_did(project: Path) -> None:
    code, document, told = _build(project, "--recipe", "auto", "--max-drop", "0.5")

    (search,) = document["searches"]
    assert code == 0, told
    (trial,) = search["trials"]
    assert (search["outcome"], search["chosen"], trial["outcome"]) == ("met", "int8-static", "met")
    (artifact,) = (one for one in document["artifacts"] if one["recipe"] == "auto")
    assert artifact["host"]["correct"] == trial["correct"]
    assert artifact["int8_mac_share"] == 1.0
    assert trial["drop_pp"] <= 0.5
    assert trial["seconds"] > 0
    assert trial["size_bytes"] == artifact["size_bytes"]
    assert any(
        "int8-static uses +equalize" in found or "auto uses +equalize" in found for found in document["findings"]
    )


def test_int8_mixed_leaves_the_layers_that_hurt_in_float_and_no_more_than_it_must(project: Path) -> None:
    _smooth(project)
    code, document, told = _build(project, "--recipe", "int8-mixed", "--max-drop", "1.2")

    (search,) = document["searches"]
    assert code == 0, told
    assert search["outcome"] == "met"
    assert search["trials"][0]["outcome"] == "missed"
    assert search["keep_float"]
    (artifact,) = (one for one in document["artifacts"] if one["recipe"] == "int8-mixed")
    assert 0.5 <= artifact["int8_mac_share"] < 1.0
    met = [trial for trial in search["trials"] if trial["outcome"] == "met"]
    assert min(trial["float_macs"] for trial in met) == round(artifact["macs"] * (1 - artifact["int8_mac_share"]))


def test_a_budget_that_nothing_keeps_is_exit_5_with_the_best_that_was_found(project: Path) -> None:
    _smooth(project)
    (project / "edgeq.toml").write_text(TOML + "[limits]\nmin_int8_mac_share = 0.8\n")
    code, document, told = _build(project, "--recipe", "int8-mixed", "--max-drop", "0.4")

    (search,) = document["searches"]
    assert code == 5
    assert search["outcome"] == "missed"
    assert "no recipe keeps 0.4 pp; the best, " in told
    scored = [trial for trial in search["trials"] if trial["drop_pp"] is not None]
    best = min(scored, key=lambda trial: trial["drop_pp"])
    assert (search["chosen"], search["keep_float"]) == (best["recipe"], best["keep_float"])
    assert all(trial["int8_mac_share"] >= 0.8 for trial in scored)
    assert (project.parent / "out" / "wild.int8-mixed.pte").is_file()


def test_too_few_samples_are_an_answer_and_nothing_slower_is_tried_on_them(project: Path) -> None:
    _smooth(project, samples=9)
    code, document, told = _build(project, "--recipe", "auto", "--max-drop", "0.5")

    (search,) = document["searches"]
    assert code == 5
    assert search["outcome"] == "cannot tell"
    assert search["reason"].startswith("no recipe keeps 0.5 pp; the best, ")
    assert search["reason"].endswith("9 samples cannot show 0.5 pp; 1,200 could")
    assert search["reason"] in told
    assert [one["outcome"] for one in document["checks"] if one["artifact"] == "wild.auto"] == ["missed"]
    assert (project.parent / "out" / "manifest.json").is_file()
    assert not any(trial["keep_float"] for trial in search["trials"])
    assert any(trial["recipe"].endswith("+adaround") for trial in search["trials"])


def test_a_train_function_that_fails_is_a_failed_trial_and_the_best_of_the_others_is_built(project: Path) -> None:
    _smooth(project)
    (project / "train.py").write_text("def train(module, steps):\n    raise RuntimeError('no gpu')\n")
    (project / "edgeq.toml").write_text(
        TOML.replace("[build]", 'train = "train.py:train"\n[build]') + "[limits]\nmin_int8_mac_share = 0.95\n"
    )
    code, document, told = _build(project, "--recipe", "auto", "--max-drop", "0.4")

    (search,) = document["searches"]
    assert code == 5, told
    assert search["outcome"] == "missed"
    assert search["reason"].endswith("int8-qat failed: train.py:train raised RuntimeError: no gpu")
    failed = search["trials"][-1]
    assert (failed["recipe"], failed["outcome"]) == ("int8-qat", "failed")
    assert "no gpu" in failed["error"]
    assert search["chosen"] != "int8-qat"
    assert (project.parent / "out" / "wild.auto.pte").is_file()
    assert not [name for name in (project.parent / "out" / "evaluation" / "host").iterdir() if "trial" in name.name]


def test_a_search_that_was_killed_tries_nothing_twice(project: Path) -> None:
    _smooth(project)
    journal = project.parent / "cache" / "search"
    running = subprocess.Popen(
        _command(project, "--recipe", "int8-mixed", "--max-drop", "1.2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(journal.glob("*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    (written,) = journal.glob("*.jsonl")
    before = len(written.read_text().splitlines())
    assert not (project.parent / "out").exists()

    code, document, told = _build(project, "--recipe", "int8-mixed", "--max-drop", "1.2")
    assert code == 0, told
    trials = [trial for trial in document["searches"][0]["trials"] if trial["outcome"] != "skipped"]
    assert [trial["resumed"] for trial in trials[:before]] == [True] * before
    assert not any(trial["resumed"] for trial in trials[before:])
    assert len(trials) > before


RECURRENT = """
import torch
from torch import nn


class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.rows(x)[0][:, -1])


def load():
    torch.manual_seed(0)
    return Rows().eval()


def samples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 6, 8, generator=generator) for _ in range(count)]


def calibration():
    return ((x,) for x in samples(32, 1))


def evaluation():
    model = load()
    with torch.no_grad():
        return [((x,), int(model(x).argmax())) for x in samples(400, 2)]
"""


def test_auto_is_not_content_with_what_leaves_recurrent_layers_in_float(project: Path) -> None:
    (project / "edgeq.toml").write_text(TOML.replace("[1, 8, 12, 12]", "[1, 6, 8]"))
    (project / "project.py").write_text(RECURRENT)

    code, document, told = _build(project, "--recipe", "auto", "--max-drop", "2", "--format", "onnx")

    assert code == 0, told
    (search,) = document["searches"]
    assert [trial["recipe"] for trial in search["trials"]] == ["int8-static", "int8-dynamic"]
    assert search["chosen"] == "int8-dynamic"
    (artifact,) = (one for one in document["artifacts"] if one["recipe"] == "auto")
    assert artifact["int8_mac_share"] > 0.9
