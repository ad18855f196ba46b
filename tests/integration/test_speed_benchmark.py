from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch import nn

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run_speed

    entry = run_speed.ZOO["ds-cnn"]
    small = type(entry)(
        make=lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 5, groups=8), nn.Conv2d(8, 8, 1), nn.Flatten()
        ),
        shape=(3, 12, 12),
        source="made up",
    )
    monkeypatch.setitem(run_speed.ZOO, "small", small)
    return run_speed


def test_one_run_times_edgeq_and_its_peers_in_turn_and_keeps_every_sample(speed: ModuleType, tmp_path: Path) -> None:
    flows = ["edgeq fp32", "edgeq int8-static", "stock PT2E", "ONNX Runtime"]
    rows = speed.model_rows("small", flows, (), rounds=3)
    speed.write(tmp_path, "small", rows)
    speed.write(tmp_path, "small", rows)  # measured again: its rows are replaced

    assert [(row.flow, row.file) for row in rows] == [
        ("edgeq fp32", ".pte"),
        ("edgeq fp32", ".onnx"),
        ("edgeq int8-static", ".pte"),
        ("edgeq int8-static", ".pte x86"),
        ("edgeq int8-static", ".onnx S8"),
        ("edgeq int8-static", ".onnx U8"),
        ("stock PT2E", ".pte"),
        ("ONNX Runtime", ".onnx S8"),
        ("ONNX Runtime", ".onnx U8"),
    ]
    assert [row.problem for row in rows] == [""] * 9
    for row in rows:
        for_arm_alone = row.flow == "edgeq int8-static" and row.file in (".pte", ".onnx S8")
        assert len(row.rounds_ns) == (0 if for_arm_alone else 3)
        assert all(ns > 0 for one in row.rounds_ns for ns in one)
    kept = json.loads((tmp_path / "results.json").read_text())["small"]["rows"]
    assert [one["rounds_ns"] for one in kept] == [row.rounds_ns for row in rows]
    table = (tmp_path / "results.md").read_text().splitlines()
    assert sum(line.startswith("| small |") for line in table) == 1


def test_a_flow_that_fails_is_a_row_with_the_reason(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no kernel for | this\nand more")

    monkeypatch.setitem(speed.FLOWS, "broken", broken)
    (row,) = speed.model_rows("small", ["broken"], (), rounds=0)
    assert row.problem == "failed: ValueError: no kernel for | this"
    assert "no kernel for / this" in speed.markdown([row])


def test_each_bar_is_told_with_what_was_measured(speed: ModuleType) -> None:
    def row(flow: str, form: str, ms: float, millions: int, variant: str = "") -> object:
        rounds = [[round(ms * 1e6) + index] for index in range(5)]
        return speed.Row(
            model="mobilenet-v3-small",
            flow=flow,
            format=form,
            variant=variant,
            rounds_ns=rounds,
            instructions={"rpi4": millions * 10**6},
        )

    told = list(
        speed.verdicts(
            [
                row("edgeq fp32", "pte", 2.0, 20),
                row("edgeq int8-static", "pte", 9.0, 21),
                row("edgeq int8-static", "pte", 1.0, 25, "x86"),
                row("stock PT2E", "pte", 1.5, 40),
            ]
        )
    )
    assert [one.partition(":")[0] for one in told] == ["met", "MISSED", "met"]
    assert "2.00 (2.00 to 2.00) times as fast as edgeq fp32 .pte, to be 1.3" in told[0]
    assert "1.050 of edgeq fp32 on rpi4, to be 1 at most" in told[1]
    assert "0.525 of stock PT2E on rpi4, to be 0.8 at most" in told[2]
