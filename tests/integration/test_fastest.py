"""``int8-fastest``: what it decides from times, where it takes them from, and that it is true to what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from quantize_models import dataset, samples, settled
from torch import nn

from edgeq.errors import NoOperatorTimesError
from edgeq.model import Model
from edgeq.progress import Silent
from edgeq.quantize import FloatGraph, quantize
from edgeq.quantize.plan import plan_int8
from edgeq.recipe import named
from edgeq.records import OpTime
from edgeq.stages.fastest import Made, SpeedGround, fastest
from edgeq.stages.fastest.costs import Operations, corrected, first_costs, operations_of, sorted_out
from edgeq.target import load_target
from edgeq.testing import sample_artifact, sample_measurement

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeq.records import Measurement, Timing

IMAGE = (1, 3, 16, 16)


class Three(nn.Module):
    """Three convolutions in a row, the last added to the first; each with a clamp of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(x))
        x = x + torch.relu(self.c(torch.relu(self.b(x))))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def source() -> FloatGraph:
    given = samples(IMAGE)
    return FloatGraph(
        Model(name="three", module=settled(Three()), example_inputs=given[0]), dataset(given), progress=Silent()
    )


@pytest.fixture(scope="module")
def operations(source: FloatGraph) -> Operations:
    return operations_of(source.graph.graph, plan_int8(source.graph.graph))


def _took(node: str, ns: int, kernel: str = "Conv", **more: Any) -> OpTime:
    return OpTime(name=kernel, kernel=kernel, op=more.pop("op", kernel), ns=ns, delegated=True, node=node, **more)


def _times(slow: Mapping[str, int], base: int, *conversions: OpTime) -> tuple[OpTime, ...]:
    names = ("conv2d", "conv2d_1", "conv2d_2", "add", "mean_dim", "linear")
    return (*(_took(name, slow.get(name, base), "kernel") for name in names), *conversions)


QUANTIZED = _took("x", 3000, "QuantizeLinear", elements=2000)
DEQUANTIZED = _took("", 1000, "DequantizeLinear", elements=10)


def test_every_operation_has_its_nodes_and_every_tensor_its_readers(operations: Operations) -> None:
    assert operations.names[:4] == ("conv2d", "conv2d_1", "conv2d_2", "add")
    assert operations.part_of["relu"] == "conv2d"
    read = {tensor.giver: set(tensor.readers) for tensor in operations.tensors}
    assert read["conv2d"] == {"conv2d_1", "add"}
    assert read[None] == {"conv2d"}
    assert None in read["linear"]


def test_a_fused_products_time_is_that_of_the_layer_it_was_made_of(operations: Operations) -> None:
    found = sorted_out(operations, [_took("conv2d", 10), _took("conv2d_1", 20), _took("add", 30)], frozenset())

    assert found.taken == {"conv2d": 10, "conv2d_1": 20, "conv2d_2": 30}


def test_a_conversion_is_an_operations_own_where_that_is_int8_and_a_border_where_it_is_not(
    operations: Operations,
) -> None:
    ops = [
        _took("conv2d_1", 5, "QuantizeLinear"),
        _took("conv2d_1", 7, "Convert (NC)", op="QuantizeLinear"),
        _took("x", 11, "QuantizeLinear"),
        _took("", 13, "ReorderInput"),
        _took("", 1, "DequantizeLinear", op=""),
    ]

    inside = sorted_out(operations, ops, frozenset({"conv2d_1"}))
    border = sorted_out(operations, ops, frozenset())

    assert (inside.taken, inside.conversions_ns, inside.layout_ns) == ({"conv2d_1": 5}, 19, 13)
    assert (border.taken, border.conversions_ns, border.layout_ns) == ({}, 24, 13)


def test_a_small_conversion_tells_what_a_call_takes_and_not_what_an_element_does(operations: Operations) -> None:
    rates = first_costs(operations, _times({}, 900), _times({}, 300, QUANTIZED, DEQUANTIZED)).rates

    assert (rates.call, rates.quantize, rates.dequantize, rates.layout) == (1000, 1.0, 1.0, 0.0)


def test_a_mixed_profile_corrects_times_and_conversions(operations: Operations) -> None:
    costs = first_costs(operations, _times({}, 900), _times({}, 300, QUANTIZED, DEQUANTIZED))
    int8 = frozenset({"conv2d"})
    seen = (_took("conv2d", 111, "kernel"), _took("add", 222, "kernel"), replace(QUANTIZED, ns=100_000))

    after = corrected(costs, operations, seen, int8, 0)

    assert (after.int8_ns["conv2d"], after.float_ns["add"]) == (111, 222)
    assert (after.float_ns["conv2d"], after.int8_ns["add"]) == (costs.float_ns["conv2d"], costs.int8_ns["add"])
    assert costs.correction < after.correction <= 4


def test_an_operation_that_is_no_layer_stays_float_by_its_whole_name(source: FloatGraph) -> None:
    recipe = replace(named("int8-static"), keep_float=("add",))
    program = quantize(source, recipe, progress=Silent()).program
    add = next(node for node in program.graph.nodes if "add" in node.name and node.op == "call_function")

    readers = [str(user.target) for user in add.users]
    assert not [reader for reader in readers if ".quantize_per_tensor" in reader]


def _row(twin: str, sha256: str, ops: tuple[OpTime, ...], timing: Timing = "hardware") -> Measurement:
    return replace(
        sample_measurement(sample_artifact(twin)),
        artifact_sha256=sha256,
        ops=ops,
        timing=timing,
        device="pi",
    )


def _ground(source: FloatGraph, tmp_path: Path, *measured: Measurement) -> SpeedGround:
    def refuse(*_: object) -> Made:
        raise AssertionError("nothing is built to decide from rows")

    twins = {name: Made(path=tmp_path / name, sha256=name, operators=()) for name in ("fp32", "int8-static")}
    return SpeedGround(
        source=source, target=load_target("rpi4"), form="pte", folder=tmp_path, model="three", twins=twins, make=refuse,
        sample=b"", measured=measured, out=tmp_path / "build",
    )  # fmt: skip


def test_a_boards_rows_decide_what_stays_float_and_say_that_it_is_a_prediction(
    source: FloatGraph, tmp_path: Path
) -> None:
    slow = {"conv2d_1": 500_000}
    rows = (
        _row("fp32", "fp32", _times({}, 90_000)),
        _row("int8-static", "int8-static", _times(slow, 30_000, QUANTIZED, DEQUANTIZED)),
    )

    found = fastest(_ground(source, tmp_path, *rows), progress=Silent())

    assert found.recipe.keep_float == ("conv2d_1",)
    assert (found.recipe.name, found.record.chosen, found.record.outcome) == (
        "int8-fastest", "int8-fastest", "cannot tell",
    )  # fmt: skip
    assert found.record.device == "pi"
    assert "run edgeq bench" in found.record.reason
    costs = {cost.node: (cost.float_ns, cost.int8_ns, cost.runs_in) for cost in found.record.costs}
    assert costs["conv2d_1"] == (90_000, 500_000, "float")
    assert costs["conv2d"] == (90_000, 30_000, "int8")
    mixed, fp32, int8 = found.record.trials
    assert mixed.predicted_ns < min(fp32.predicted_ns, int8.predicted_ns)


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (_row("fp32", "fp32", _times({}, 9)), _row("int8-static", "another", _times({}, 3))),
        (
            _row("fp32", "fp32", _times({}, 9), "emulated"),
            _row("int8-static", "int8-static", _times({}, 3), "emulated"),
        ),
        (_row("fp32", "fp32", _times({}, 9), "host"), _row("int8-static", "int8-static", _times({}, 3), "host")),
    ],
    ids=["none", "of another build", "of an emulator", "of this machine"],
)
def test_times_that_are_not_the_boards_own_decide_nothing(
    source: FloatGraph, tmp_path: Path, rows: tuple[Measurement, ...]
) -> None:
    with pytest.raises(NoOperatorTimesError) as caught:
        fastest(_ground(source, tmp_path, *rows), progress=Silent())
    assert "edgeq bench" in caught.value.hint
    assert "--profile" in caught.value.hint


TOML = """
[model]
name = "tiny"
factory = "project.py:load"
inputs = [{ shape = [1, 3, 32, 32] }]
[data]
calibration = "project.py:calibration"
evaluation = "project.py:evaluation"
"""

PROJECT = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.wide = nn.Sequential(nn.Conv2d(8, 64, 1), nn.GELU(), nn.Conv2d(64, 8, 1))
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.deep = nn.Conv2d(8, 64, 3, padding=1, stride=2)
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = self.up(x + self.wide(x))
        return self.head(torch.relu(self.deep(x)).mean((2, 3)))


def load():
    torch.manual_seed(0)
    return Tiny().eval()


def images(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(1, 3, 32, 32, generator=generator), index % 4) for index in range(count)]


def calibration():
    return ((image,) for image, _ in images(4, 1))


def evaluation():
    return (((image,), label) for image, label in images(8, 2))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "edgeq.toml").write_text(TOML)
    (folder / "project.py").write_text(PROJECT)
    return folder


def _build(project: Path, target: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "edgeq", "build", str(project), "--target", target, "--json"]
    argv += ["--recipe", "int8-fastest", "--out", str(project.parent / "out")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)


def test_a_build_for_this_machine_times_builds_and_verifies(project: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    done = _build(project, "host")
    out = project.parent / "out"
    manifest = json.loads((out / "manifest.json").read_text())

    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.glob("*.pte")} == {"tiny.fp32.pte", "tiny.int8-fastest.pte"}
    assert {path.name for path in out.glob("*.onnx")} == {"tiny.fp32.onnx", "tiny.int8-fastest.onnx"}
    assert [search["format"] for search in manifest["speed_searches"]] == ["pte", "onnx"]
    for search in manifest["speed_searches"]:
        assert (search["device"], search["timing"]) == ("local", "host")
        assert {trial["recipe"] for trial in search["trials"]} >= {"fp32", "int8-static"}
        assert all(trial["median_ns"] > 0 for trial in search["trials"])
        layers = {cost["node"] for cost in search["costs"] if cost["float_ns"] > 0 and cost["int8_ns"] > 0}
        assert len(layers) >= 3
        if search["outcome"] == "met":
            assert search["chosen"] == "int8-fastest"
            assert search["float_nodes"]
        else:
            assert search["outcome"] == "missed"
            assert search["chosen"] in ("fp32", "int8-static")
            assert search["chosen"] in search["reason"]


def test_a_build_for_a_board_that_was_never_profiled_says_what_to_run_first(project: Path) -> None:
    done = _build(project, "rpi4")

    assert done.returncode == 2
    assert "edgeq bench" in done.stderr
    assert "--profile" in done.stderr
    assert not (project.parent / "out").exists()
