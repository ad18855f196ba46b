"""Programs for an Arm Ethos-U: what the NPU takes, whether it computes the same, what Vela and edgeq say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from device_help import run_edgeq
from npu_models import Everything, WithSoftmax
from quantize_models import IMAGE, outputs, quantized, samples, settled
from torch import nn
from tosa_reference import recorded

from edgeq.errors import LoweringError
from edgeq.host import HostRuntime
from edgeq.lower import lower
from edgeq.records import Manifest
from edgeq.schema import from_json
from edgeq.target import load_target

if TYPE_CHECKING:
    from edgeq.lower import Coverage
    from edgeq.quantize import QuantizedProgram

EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist"
TARGET = "ethos-u55-128"
BUILT_FOR = "ethos-u65-256"


def _lowered(program: QuantizedProgram, folder: Path, target: str = TARGET) -> Coverage:
    return lower(program, "pte", load_target(target), folder / "npu.pte", stand_in=folder / "here.pte")


def _lowered_and_compared(program: QuantizedProgram, folder: Path, target: str = TARGET) -> tuple[Coverage, int]:
    """What was lowered, and by how many steps its output differs from the one that stands in for it, at most."""
    with recorded() as reference:
        coverage = _lowered(program, folder, target)
    (scale,) = coverage.output_scales
    assert scale is not None
    assert len(reference.programs) == coverage.partitions
    given = samples(IMAGE, count=4, seed=9)
    rows = np.stack([np.concatenate([one.ravel() for one in reference.run(inputs)]) for inputs in given])
    here = outputs(HostRuntime(folder / "here.pte", "pte"), given)
    return coverage, int(np.abs(np.round((rows - here) / scale)).max())


@pytest.mark.parametrize(
    ("target", "recipe"),
    [
        ("ethos-u55-128", "int8-static"),
        ("ethos-u85-256", "int8-static-per-tensor"),
    ],
)
def test_an_npu_takes_every_operator_that_is_int8_and_computes_the_same(
    target: str, recipe: str, tmp_path: Path
) -> None:
    program = quantized(settled(Everything()), samples(IMAGE), recipe)
    coverage, steps = _lowered_and_compared(program, tmp_path, target)
    assert coverage.undelegated == ()
    assert (coverage.int8_mac_share, coverage.delegated_mac_share, coverage.partitions) == (1.0, 1.0, 1)
    assert coverage.requires.backends == ("EthosUBackend",)
    assert coverage.estimate is not None
    assert coverage.estimate.accelerator == target
    assert steps <= 1


def test_what_stays_float_is_left_to_the_core_with_its_reason(tmp_path: Path) -> None:
    program = quantized(settled(WithSoftmax()), samples(IMAGE))
    coverage, steps = _lowered_and_compared(program, tmp_path)
    reasons = {row.op: row.reason for row in coverage.undelegated}
    assert "aten._softmax.default" in reasons
    assert coverage.partitions == 2
    assert coverage.estimate is not None
    assert coverage.estimate.partitions == 2
    assert coverage.estimate.outside == sum(not node.delegated for node in coverage.nodes.nodes)
    assert steps <= 1


def test_a_float_twin_has_no_estimate_and_says_why_nothing_of_it_is_delegated(tmp_path: Path) -> None:
    coverage = _lowered(quantized(settled(WithSoftmax()), samples(IMAGE), "fp32"), tmp_path)
    assert coverage.estimate is None
    assert coverage.delegated_mac_share == 0.0
    assert {row.reason.partition(":")[0] for row in coverage.undelegated} == {"dtype"}


def test_no_other_format_is_suggested_where_a_program_cannot_be_lowered(tmp_path: Path) -> None:
    class Sorted(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(image).flatten(1)

    program = quantized(Sorted().eval(), samples(IMAGE))
    with pytest.raises(LoweringError) as caught:
        _lowered(program, tmp_path)
    assert "onnx" not in caught.value.hint
    assert not (tmp_path / "npu.pte").exists()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ethos-u")


@pytest.fixture(scope="module")
def run(home: Path) -> dict[str, Any]:
    done = run_edgeq("run", EXAMPLE, "--target", BUILT_FOR, "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


BUILD = Path("build/fashion-mnist") / BUILT_FOR


def test_a_run_ends_with_the_report_and_says_that_nothing_was_measured(run: dict[str, Any]) -> None:
    assert "microcontroller" in run["not_measured"]
    assert {Path(file).name for file in run["files"]} == {"report.md", "report.html", "report.json"}
    for row in run["rows"]:
        assert (row["device"], row["timing"], row["p50_ms"], row["accuracy"]) == (None, None, None, None)
    assert run["builds"][0]["decision"]["headline"].startswith("No verdict")


def test_the_manifest_keeps_velas_estimate_and_what_was_scored(run: dict[str, Any], home: Path) -> None:
    manifest = from_json(Manifest, (home / BUILD / "manifest.json").read_bytes(), where="manifest")
    assert not manifest.measurable
    fp32, int8 = manifest.artifacts
    assert (fp32.estimate, fp32.delegated_mac_share) == (None, 0.0)
    assert (int8.format, int8.delegated_mac_share) == ("pte", 1.0)
    assert int8.estimate is not None
    assert int8.estimate.by == f"Vela {manifest.tools['ethos-u-vela']}"
    assert int8.estimate.clock_hz == 1_000_000_000
    assert int8.estimate.inferences_per_second == pytest.approx(int8.estimate.clock_hz / int8.estimate.cycles)
    assert 0 < int8.estimate.mac_utilisation < 1
    assert (int8.estimate.accelerator, int8.estimate.off_chip_flash_bytes) == (BUILT_FOR, 0)
    assert 0 < int8.estimate.sram_bytes + int8.estimate.dram_bytes < 2 * int8.size_bytes
    assert "XNNPACK" in int8.host.scored
    assert int8.host.agree is not None
    assert int8.host.agree > 0.98 * int8.host.total
    assert any(".onnx" in sentence for sentence in manifest.findings)
    assert run["rows"][1]["estimate"]["cycles"] == int8.estimate.cycles


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_the_reports_call_the_estimate_one(run: dict[str, Any], home: Path, name: str) -> None:
    assert run["rows"]
    text = (home / BUILD / name).read_text(encoding="utf-8")
    assert "Estimate by Vela" in text
    assert "not a measurement" in text


def test_an_explanation_gives_the_estimate_as_one(run: dict[str, Any], home: Path) -> None:
    assert run["rows"]
    done = run_edgeq("explain", BUILD, cwd=home)
    assert done.returncode == 0, done.stderr
    assert "estimate by Vela" in done.stdout
    assert "not a measurement" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "command",
    [
        ("deploy", BUILD, "--device", "local"),
        ("bench", BUILD, "--device", "local"),
        ("parity", BUILD, "--device", "local"),
        ("export", BUILD, "--platform", "android", "--out", "app"),
    ],
)
def test_what_takes_another_machine_is_an_error_that_names_the_next_step(
    run: dict[str, Any], home: Path, command: tuple[object, ...]
) -> None:
    assert run["rows"]
    done = run_edgeq(*command, cwd=home)
    assert done.returncode == 2, done.stderr
    assert "microcontroller" in done.stderr
    assert "edgeq report" in done.stderr
