from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    return run


@pytest.fixture
def case(run: ModuleType) -> Any:
    dice = np.random.default_rng(0)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    rows = dice.normal(size=(40, 1, 8, 8)).astype(np.float32)
    return run.Case(
        name="small",
        note="a small network; noise",
        network=network,
        calibration=rows,
        evaluation=rows[8:],
        labels=dice.integers(0, 4, 32),
    )


def test_one_run_puts_edgeq_beside_its_peers_on_the_same_samples(
    run: ModuleType, case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.CASES, "small", lambda _: case)
    flows = ["fp32", "stock PT2E", "ONNX Runtime MinMax", "edgeq int8-static"]
    note, rows = run.model_rows("small", flows, 32)
    run.write(tmp_path, "small", note, rows)

    assert [(row.flow, row.format) for row in rows] == [
        ("fp32", "onnx"),
        ("stock PT2E", "pte"),
        ("ONNX Runtime MinMax", "onnx"),
        ("edgeq int8-static", "pte"),
        ("edgeq int8-static", "onnx"),
    ]
    assert [row.problem for row in rows] == [""] * 5
    assert all(row.labelled == row.total == 32 for row in rows)
    assert [row.int8_mac_share for row in rows] == [0, 1, 1, 1, 1]
    assert all(row.agree >= 28 and row.sqnr_db > 20 for row in rows[1:])
    written = json.loads((tmp_path / "results.json").read_text())
    assert len(written["small"]["rows"]) == 5
    assert "| small | fp32 | onnx |" in (tmp_path / "results.md").read_text()


def test_what_cannot_run_is_a_row_with_the_reason(
    run: ModuleType, case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'peer'", name="peer")

    def broken(*_: object) -> None:
        raise ValueError("no kernel for | this\nand more")

    def no_data(_: int) -> None:
        raise FileNotFoundError("install the data")

    monkeypatch.setitem(run.CASES, "small", lambda _: case)
    monkeypatch.setitem(run.CASES, "other", no_data)
    monkeypatch.setitem(run.FLOWS, "missing", missing)
    monkeypatch.setitem(run.FLOWS, "broken", broken)
    problems = []
    for name in ("small", "other"):
        note, rows = run.model_rows(name, ["fp32", "missing", "broken"], 32)
        run.write(tmp_path, name, note, rows)
        problems += [row.problem for row in rows]

    assert problems == [
        "",
        "skipped: peer is not installed; pip install --no-deps -r benchmarks/requirements.txt",
        "failed: ValueError: no kernel for | this",
        "skipped: install the data",
    ]
    assert "failed: ValueError: no kernel for / this" in (tmp_path / "results.md").read_text()
    assert "| other | all |  | skipped: install the data" in (tmp_path / "results.md").read_text()
