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


def test_the_runner_and_a_bare_loop_are_visited_in_turn_and_compared(
    run_overhead: ModuleType, tmp_path: Path, models: Path
) -> None:
    device = with_models(tmp_path / "device", models)
    paths = [device.path("xnnpack.pte"), device.path("fp32.onnx")]

    visits = run_overhead.measure(paths, SAMPLES[0].tobytes(), rounds=5, visit_ms=20)
    run_overhead.write(tmp_path / "out", visits)

    assert len(visits) == 10
    assert all(min(one.wall_ns, one.reported_ns, one.bare_ns) > 0 for one in visits)
    found = json.loads((tmp_path / "out" / "results.json").read_text())["overheads"]
    assert sorted(one["file"] for one in found) == ["fp32.onnx", "xnnpack.pte"]
    # Small as these networks are, a runner that does much between two executions would be twice as slow.
    assert all(one["share"] < 1 for one in found)
    table = (tmp_path / "out" / "results.md").read_text()
    assert all(f"| {path.name} |" in table for path in paths)


def test_too_few_rounds_are_no_result(run_overhead: ModuleType) -> None:
    visit = run_overhead.Visit(file="a", round=0, wall_ns=1, reported_ns=1, bare_ns=1)

    with pytest.raises(ValueError, match="5 are needed"):
        run_overhead.overheads([visit])
