"""The runner that is slow or leaks where a test asks it to, and the one that never is."""

from __future__ import annotations

import json
import subprocess
from statistics import median
from typing import TYPE_CHECKING

import pytest
from runner_device import SAMPLES, TRIPLE, Deployed, with_models

from edgeq.errors import RunnerFailedError
from edgeq.progress import Silent
from edgeq.runner import Engine, bundle
from edgeq.stages.bench.leak import EVERY, RUNS, judge

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MODELS = ("xnnpack.pte", "fp32.onnx")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Deployed:
    return with_models(tmp_path_factory.mktemp("faulty"), models, test_faults=True)


@pytest.fixture(autouse=True)
def _no_faults_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPIN_PERCENT", "LEAK_BYTES", "MODEL"):
        monkeypatch.delenv(f"EDGEQ_TEST_{name}", raising=False)


def _medians(faulty: Deployed, model: str, spins: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    medians = []
    for spin in spins:
        monkeypatch.setenv("EDGEQ_TEST_SPIN_PERCENT", spin)
        medians.append(median(run.ns for run in faulty.execute(model, SAMPLES[:1], warmup=20, repeats=300)[0].runs))
    return medians


@pytest.mark.parametrize("model", MODELS)
def test_a_spin_makes_each_execution_longer_by_its_share(
    faulty: Deployed, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, spun, again = _medians(faulty, model, ("0", "900", "0"), monkeypatch)

    assert spun > 4 * max(plain, again)


def test_a_fault_can_be_for_one_model_alone(faulty: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_TEST_MODEL", "fp32.onnx")

    plain, spared = _medians(faulty, "xnnpack.pte", ("0", "900"), monkeypatch)

    assert spared < 4 * plain


def test_a_leak_loses_what_it_is_told_to(faulty: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    before = faulty.execute("xnnpack.pte", SAMPLES[:1], repeats=50)[0].peak_rss_bytes
    monkeypatch.setenv("EDGEQ_TEST_LEAK_BYTES", str(1 << 20))
    after = faulty.execute("xnnpack.pte", SAMPLES[:1], repeats=50)[0].peak_rss_bytes

    assert before is not None
    assert after is not None
    assert after - before >= 45 << 20


@pytest.mark.parametrize("engine", ["executorch", "onnxruntime"])
def test_a_runner_with_faults_says_so_and_is_another_build(engine: Engine) -> None:
    builds = {}
    for test_faults in (False, True):
        built = bundle(engine, TRIPLE, progress=Silent(), test_faults=test_faults)
        program = built.files[built.executable]
        said = subprocess.run([program, "hello"], capture_output=True, check=True, text=True).stdout.splitlines()
        hello = json.loads(said[0])
        builds[test_faults] = hello["build"]
        assert hello.get("test_faults", False) is test_faults
        assert (b"EDGEQ_TEST_" in program.read_bytes()) is test_faults
    assert builds[False] != builds[True]


def test_a_fault_that_is_no_number_is_refused(faulty: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("much", "-5", "5%", "nan"):
        monkeypatch.setenv("EDGEQ_TEST_SPIN_PERCENT", text)
        with pytest.raises(RunnerFailedError) as caught:
            faulty.execute("xnnpack.pte", SAMPLES[:1])
        assert caught.value.code == "bad_arguments"


def _leak(faulty: Deployed, model: str) -> str:
    seen, _ = faulty.execute(model, SAMPLES[:1], repeats=RUNS, memory_every=EVERY)
    return judge([one.anonymous_bytes or 0 for one in seen.resources if one.runs % EVERY == 0])[1]


@pytest.mark.parametrize("model", [*MODELS, "int8.pte", "int8.onnx"])
def test_neither_runtime_leaks_and_a_hundred_bytes_an_inference_are_found(
    faulty: Deployed, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _leak(faulty, model) == "does not grow"
    monkeypatch.setenv("EDGEQ_TEST_LEAK_BYTES", "100")
    assert _leak(faulty, model) == "grows"
