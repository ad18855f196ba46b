"""``--explain-recipe`` rests on the real graph: its shares are those of the artifacts, and it builds nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quantize_models import IMAGE, lowered, quantized, samples, settled
from torch import nn
from torch.nn import functional

from edgeq.errors import ExportError, UnknownNameError
from edgeq.model import Model
from edgeq.pipeline import explain_recipe
from edgeq.progress import Silent
from edgeq.quantize.work import Work, measure_work

EXAMPLES = Path(__file__).parents[2] / "examples"

DEPTHWISE = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1),
    nn.BatchNorm2d(8),
    nn.ReLU6(),
    nn.Conv2d(8, 8, 3, padding=1, groups=8),
    nn.ReLU6(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(8, 4),
)
GREY = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))


class Attending(nn.Module):
    """One projection to queries, keys and values, attention, a projection back."""

    def __init__(self) -> None:
        super().__init__()
        self.ask, self.back = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.ask(functional.layer_norm(x, (16,))).chunk(3, dim=-1)
        return self.back(functional.scaled_dot_product_attention(query, key, value))


class Remembering(nn.Module):
    """A recurrent layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][:, -1])


SMALL = {
    "depthwise": (DEPTHWISE, IMAGE),
    "grey": (GREY, (1, 1, 8, 8)),
    "attending": (Attending(), (1, 6, 16)),
    "remembering": (Remembering(), (1, 6, 8)),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def work(module: nn.Module, *shape: int) -> Work:
    model = Model(name="small", module=settled(module), example_inputs=samples(shape)[0])
    return measure_work(model, progress=Silent())


@pytest.mark.parametrize("name", SMALL)
def test_the_shares_are_those_of_the_artifacts(name: str, tmp_path: Path) -> None:
    module, shape = SMALL[name]
    found = work(module, *shape)
    for recipe, share in (("int8-static", found.static_share), ("int8-dynamic", found.dynamic_share)):
        coverage, _ = lowered(quantized(module, samples(shape), recipe), "pte", tmp_path)
        # The first step of a recurrent layer multiplies zeros, which an artifact leaves out.
        assert share == pytest.approx(coverage.int8_mac_share, abs=0.02), recipe


def test_each_multiply_accumulate_is_counted_under_what_it_is_for() -> None:
    kinds = work(DEPTHWISE, *IMAGE).kinds
    assert kinds["convolutions"] == 16 * 16 * (8 * 27 + 8 * 9)
    assert kinds["linear layers"] == 32
    assert kinds["products"] == kinds["recurrent layers"] == 0

    attending = work(Attending(), 1, 6, 16)
    assert attending.kinds["linear layers"] == 6 * 16 * (48 + 16)
    assert attending.kinds["products"] == 2 * 6 * 6 * 16

    remembering = work(Remembering(), 1, 6, 8)
    assert remembering.kinds["recurrent layers"] == 6 * 4 * 16 * (8 + 16)
    assert remembering.kinds["linear layers"] == 64
    assert remembering.macs == sum(remembering.kinds.values())


def test_a_product_with_a_constant_counts_as_the_linear_layer_it_is() -> None:
    class Multiplying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    found = work(Multiplying(), 1, 8)
    assert found.kinds["linear layers"] == 32
    assert found.static_share == found.dynamic_share == 1.0


def test_convolutions_of_volumes_are_work_that_nothing_takes() -> None:
    found = work(nn.Conv3d(1, 2, 3), 1, 1, 4, 4, 4)
    assert found.kinds["convolutions"] == 2 * 8 * 27
    assert found.static_share == found.dynamic_share == 0.0


def test_a_model_without_layers_is_no_work() -> None:
    found = work(nn.ReLU(), 1, 4)
    assert found.macs == 0
    assert found.static_share == found.dynamic_share == 0.0


def test_a_model_that_cannot_be_exported_is_said() -> None:
    class Deciding(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError):
        work(Deciding(), 1, 4)


@pytest.mark.parametrize(
    ("example", "target", "recipe"),
    [
        ("fashion_mnist", "rpi4", "int8-static"),
        ("lstm_dynamic", "rpi5", "int8-dynamic"),
        ("transformer_dynamic", "rpi4", "int8-dynamic"),
        ("transformer_dynamic", "rpi5", "int8-static"),
    ],
)
def test_each_example_gets_the_recipe_of_its_kind(example: str, target: str, recipe: str) -> None:
    assert explain_recipe(EXAMPLES / example, target=target, progress=Silent()).recipe == recipe


def test_layers_behind_int8_are_told_from_layers_behind_float() -> None:
    assert work(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), 1, 8).chained_share == 0.5
    assert work(nn.Sequential(nn.Linear(8, 8), nn.Softmax(1), nn.Linear(8, 8)), 1, 8).chained_share == 0.0


def test_a_recipe_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="int8-statik"):
        explain_recipe(EXAMPLES / "fashion_mnist", recipes=("int8-statik",), progress=Silent())


def explained(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "edgeq", "build", str(EXAMPLES / "lstm_dynamic"), "--explain-recipe", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, timeout=120).stdout


def test_the_command_prints_three_lines_and_writes_nothing(tmp_path: Path) -> None:
    lines = explained(tmp_path, "--target", "rpi5").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["int8-dynamic", "data", "target"]
    assert "no [data] calibration, and none is needed" in lines[1]
    assert not list(tmp_path.iterdir())


def test_the_command_prints_one_json_document(tmp_path: Path) -> None:
    told = json.loads(explained(tmp_path, "--target", "rpi5", "--max-drop", "0.2", "--json"))
    assert set(told) == {"recipe", "reasons", "facts"}
    assert told["recipe"] == "int8-dynamic"
    assert len(told["reasons"]) == 3
    assert told["facts"]["max_drop_pp"] == 0.2
    assert told["facts"]["kinds"]["recurrent layers"] > 0.99 * told["facts"]["macs"]
