"""What was tried or gathered for one model, its data and its training is not taken for another's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from edgeq.model import Model
from edgeq.progress import SILENT
from edgeq.project import load_project
from edgeq.quantize import FloatGraph
from edgeq.recipe import named
from edgeq.stages import build, planning
from edgeq.target import load_target

if TYPE_CHECKING:
    from pathlib import Path

TOML = """
[model]
name = "tiny"
factory = "project.py:load"
inputs = [{ shape = [1, 3, 8, 8] }]
[data]
calibration = "project.py:calibration"
evaluation = "project.py:calibration"
train = "train.py:train"
"""
PROJECT = """
import torch

def load():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())

def calibration():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(1, 3, 8, 8, generator=generator),) for _ in range(4)]
"""
TRAIN = "def train(module, steps, learning_rate):\n    pass\n"


class Scaled(nn.Module):
    """The same code and state dict for every ``factor``."""

    def __init__(self, how: str, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.how = nn.Conv2d(3, 4, 3), how
        scale = torch.tensor([factor, 1.0, 2.0, 3.0]).view(1, 4, 1, 1)
        if how == "buffer":
            self.register_buffer("scale", scale, persistent=False)
        else:
            self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.sigmoid(self.conv(x)) * self.scale).mean((2, 3))


@pytest.mark.parametrize("how", ["buffer", "attribute"])
def test_graphs_that_differ_in_a_tensor_outside_the_state_dict_are_different(how: str) -> None:
    one, same, other = (
        FloatGraph(
            Model(name="a", module=Scaled(how, factor).eval(), example_inputs=(torch.rand(1, 3, 8, 8),)),
            None,
            progress=SILENT,
        ).sha256
        for factor in (1.0, 1.0, 5.0)
    )
    assert one == same
    assert one != other


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in (("edgeq.toml", TOML), ("project.py", PROJECT), ("train.py", TRAIN)):
        (folder / name).write_text(text)
    return folder


def _fingerprint(project: Path, recipe: str) -> str:
    plan = planning.plan(load_project(project), load_target("rpi4"), recipes=["auto"], formats=["onnx"], jobs=1)
    scorer: Any = SimpleNamespace(sha256="of the evaluation set")
    maker = build._Maker(plan, project, project, build._Sources(plan, SILENT), scorer, SILENT)
    return maker._fingerprint(named(recipe), "onnx")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("train.py", TRAIN + "# another\n"),
        ("edgeq.toml", TOML + "[qat]\nsteps = 7\n"),
        ("edgeq.toml", TOML + "[qat]\nlearning_rate = 0.5\n"),
        ("edgeq.toml", TOML + "[qat]\nseed = 7\n"),
    ],
    ids=["source", "steps", "learning rate", "seed"],
)
def test_another_training_makes_trials_that_train_anew_and_no_others(project: Path, file: str, text: str) -> None:
    before = [_fingerprint(project, recipe) for recipe in ("int8-static", "int8-qat")]
    (project / file).write_text(text)
    static, trained = (_fingerprint(project, recipe) for recipe in ("int8-static", "int8-qat"))
    assert static == before[0]
    assert trained != before[1]


def test_calibration_that_reads_all_makes_every_trial_anew(project: Path) -> None:
    before = _fingerprint(project, "int8-static")
    (project / "edgeq.toml").write_text(TOML.replace("[data]", "[data]\nconverge = false"))
    assert _fingerprint(project, "int8-static") != before


def test_a_train_function_that_auto_could_not_call_is_refused_before_anything_is_built(project: Path) -> None:
    from edgeq.errors import TrainSignatureError

    (project / "train.py").write_text("def train(module):\n    pass\n")
    with pytest.raises(TrainSignatureError, match=r"takes \(module\)"):
        _fingerprint(project, "int8-static")
