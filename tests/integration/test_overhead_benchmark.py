from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runner_device import SAMPLES, with_models

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run_overhead(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run_overhead

    return run_overhead


def test_blocks_of_the_runner_and_of_a_bare_loop_are_paired_and_compared(
    run_overhead: ModuleType, tmp_path: Path, models: Path
) -> None:
    device = with_models(tmp_path / "device", models)
    paths = [device.path("xnnpack.pte"), device.path("fp32.onnx")]

    pairs = run_overhead.measure(paths, SAMPLES[0].tobytes(), visits=2, pairs=10)
    run_overhead.write(tmp_path / "out", pairs)

    assert len(pairs) == 40
    assert all(min(one.runner_ns, one.bare_ns) > 0 for one in pairs)
    found = json.loads((tmp_path / "out" / "results.json").read_text())["overheads"]
    assert sorted(one["file"] for one in found) == ["fp32.onnx", "xnnpack.pte"]
    # Small as these networks are, a runner that does much between two executions would be twice as slow.
    assert all(one["share"] < 1 for one in found)
    table = (tmp_path / "out" / "results.md").read_text()
    assert all(f"| {path.name} |" in table for path in paths)


def test_too_few_pairs_are_no_result(run_overhead: ModuleType) -> None:
    pair = run_overhead.Pair(file="a", visit=0, runner_ns=1, bare_ns=1)

    with pytest.raises(ValueError, match="5 are needed"):
        run_overhead.overheads([pair])
