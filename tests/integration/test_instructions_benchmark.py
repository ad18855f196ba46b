from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.device import board
from edgeq.target import load_target

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run_instructions

    return run_instructions


def _rows(benchmark: Any, original: tuple[int, ...], wider: tuple[int, ...]) -> list[Any]:
    works = ((benchmark.ORIGINAL, original, 300_000_000), (benchmark.WIDENED, wider, 303_000_000))
    return [
        benchmark.Row(target="rpi4", name=f"{work}.pte", work=work, macs=macs, counts=counts)
        for work, counts, macs in works
    ]


def test_counts_that_repeat_and_show_the_wider_network_miss_no_bar(benchmark: ModuleType) -> None:
    rows = _rows(benchmark, (100_000, 100_050), (101_000, 101_020))
    assert list(benchmark.bars_missed(rows)) == []
    assert "| 2 | 0.100 | 0.0500 % |" in benchmark.table(rows)
    assert "| 1.00 % | 0.950 to 1.020 % | 4 of 4 |" in benchmark.table(rows)


def test_a_file_that_is_counted_again_replaces_its_own_row_only(benchmark: ModuleType, tmp_path: Path) -> None:
    first, second = _rows(benchmark, (100_000, 100_050), (101_000, 101_020))
    benchmark.write(tmp_path, [first, second])
    benchmark.write(tmp_path, [replace(first, counts=(100_007, 100_008, 100_009))])
    kept = {row["name"]: row["counts"] for row in json.loads((tmp_path / "instructions.json").read_text())["rows"]}
    assert kept == {first.name: [100_007, 100_008, 100_009], second.name: [101_000, 101_020]}
    assert "| 6 of 6 |" in (tmp_path / "instructions.md").read_text()


def test_a_spread_and_a_pair_of_boots_that_hides_the_work_are_bars_missed(benchmark: ModuleType) -> None:
    spread, hidden = benchmark.bars_missed(_rows(benchmark, (100_000, 101_000), (101_000, 101_020)))
    assert "spreads by 1.000%" in spread
    assert "is not told from" in hidden


def test_the_wider_network_does_about_one_percent_more(benchmark: ModuleType) -> None:
    original = benchmark.macs(benchmark.ZOO[benchmark.ORIGINAL].make())
    assert 1.009 < benchmark.macs(benchmark.widened()) / original < 1.011


def test_a_fresh_board_is_booted_without_a_snapshot_and_is_gone_after_it(benchmark: ModuleType) -> None:
    before = {one.name for one in board.running()}
    with benchmark.fresh_board(load_target("rpi3")) as device:
        assert device.run(["uname", "-m"]).stdout.strip() == b"aarch64"
        (mine,) = [one for one in board.running() if one.name == device.name]
        assert not mine.from_snapshot
    assert mine.name not in {one.name for one in board.running()} | before
