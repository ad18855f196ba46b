from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeq.progress import Silent
from edgeq.records import Measurement, ThreadsTried
from edgeq.stages.bench import bench, settings
from edgeq.stages.bench.threads import fastest
from edgeq.stages.deploy import deploy
from edgeq.testing import FakeTransport, sample_bundle, sample_target, tiny_build

FP32, INT8 = "tiny.fp32.pte", "tiny.int8-static.pte"


class Board(FakeTransport):
    """A device whose inferences take ``microseconds[model, threads]``."""

    def __init__(self, root: Path, microseconds: dict[tuple[str, int], int]) -> None:
        super().__init__(root)
        self._microseconds = microseconds

    def _play(self, argv: Any, stdin: Any, on_stdout: Any) -> Any:
        options = dict(itertools.pairwise(argv))
        key = (Path(options.get("--model", "")).name, int(options.get("--threads", 0)))

        def slowed(data: bytes) -> None:
            if data.startswith(b'{"event":"run"') and key in self._microseconds:
                event = json.loads(data)
                event["ns"] = self._microseconds[key] * 1000 + event["ns"] % 1000
                data = json.dumps(event).encode() + b"\n"
            on_stdout(data)

        return super()._play(argv, stdin, slowed if on_stdout else None)


@dataclass
class Measured:
    rows: dict[str, Measurement]
    visits: list[tuple[str, int]]


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(microseconds: dict[tuple[str, int], int], *threads: int) -> Measured:
        monkeypatch.setenv("HOME", str(tmp_path / "host"))
        manifest = tiny_build(tmp_path / "build")
        device = Board(tmp_path / "device", microseconds)
        bundles = {"executorch": sample_bundle(tmp_path / "bundle")}
        target = sample_target()
        deployed = deploy(tmp_path / "build", manifest, target, device, bundles, device="fake", progress=Silent())
        device.ran.clear()
        how = settings(target, deployed.deployment, threads=threads)
        rows = bench(tmp_path / "build", manifest, deployed.deployment, device, how, progress=Silent())
        options = [dict(itertools.pairwise(argv)) for argv in device.ran if "--model" in argv]
        visits = [(Path(one["--model"]).name, int(one["--threads"])) for one in options]
        return Measured({row.artifact: row for row in rows}, visits)

    return run


def test_each_artifact_is_measured_with_the_threads_that_are_fastest_for_it(measured: Any) -> None:
    took = {(FP32, 1): 9000, (FP32, 2): 5000, (FP32, 4): 3000, (INT8, 1): 2000, (INT8, 2): 1500, (INT8, 4): 1800}
    rows = measured(took).rows
    assert (rows[FP32].threads, rows[INT8].threads) == (4, 2)
    assert {ns // 1_000_000 for ns in rows[FP32].latencies_ns} == {3}
    assert {one.threads: one.latencies_ns[0] // 1000 for one in rows[INT8].tried} == {1: 2000, 2: 1500, 4: 1800}


def test_all_are_tried_in_turn_before_anything_is_measured(measured: Any) -> None:
    visits = measured({}).visits
    everything = {(name, threads) for name in (FP32, INT8) for threads in (1, 2, 4)}
    rounds = [visits[start : start + 6] for start in (0, 6, 12)]
    assert all(set(each) == everything for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


def test_the_evaluation_set_runs_with_the_chosen_threads(measured: Any) -> None:
    took = {(FP32, 1): 900, (FP32, 2): 500, (FP32, 4): 300, (INT8, 1): 200, (INT8, 2): 200, (INT8, 4): 200}
    assert measured(took).visits[-2:] == [(FP32, 4), (INT8, 1)]


def test_a_number_that_was_set_is_not_tried(measured: Any) -> None:
    found = measured({}, 2)
    assert {threads for _, threads in found.visits} == {2}
    assert all(row.tried == () for row in found.rows.values())


def test_two_percent_are_no_reason_for_another_core() -> None:
    def tried(threads: int, ns: int) -> ThreadsTried:
        return ThreadsTried(threads=threads, latencies_ns=(ns,) * 15, rounds=(5, 5, 5))

    assert fastest([tried(1, 1019), tried(2, 1000), tried(4, 1010)]) == 1
    assert fastest([tried(1, 1030), tried(2, 1000), tried(4, 990)]) == 2
