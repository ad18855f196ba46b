from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import (
    ConfigError,
    ConnectionLostError,
    CorruptArtifactError,
    DeploymentGoneError,
    RunnerProtocolError,
    StaleDeploymentError,
    UnknownNameError,
    WrongOutputError,
)
from edgeq.progress import Silent
from edgeq.records import Deployment, Manifest, Measurement
from edgeq.stages.bench import Settings, bench, measurements_path, read_measurements, settings
from edgeq.stages.deploy import deploy
from edgeq.stats import NO_ANSWER
from edgeq.testing import SAMPLES, FakeTransport, sample_bundle, sample_facts, sample_target, tiny_build


@dataclass
class Setup:
    build: Path
    manifest: Manifest
    device: FakeTransport
    deployment: Deployment

    def bench(self, **options: object) -> tuple[Measurement, ...]:
        return bench(
            self.build, self.manifest, self.deployment, self.device, self.settings(**options), progress=Silent()
        )

    def settings(self, **options: object) -> Settings:
        emulated = self.deployment.device_facts.emulated
        threads = {} if emulated else {"threads": (4,)}
        return settings(sample_target(), self.deployment, **{**threads, **options})  # type: ignore[arg-type]

    def emulate(self) -> None:
        self.deployment = replace(self.deployment, device_facts=sample_facts(emulated=True))


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    manifest = tiny_build(tmp_path / "build")
    device = FakeTransport(tmp_path / "device")
    bundles = {"executorch": sample_bundle(tmp_path / "bundle")}
    deployed = deploy(tmp_path / "build", manifest, sample_target(), device, bundles, device="fake", progress=Silent())
    device.ran.clear()
    return Setup(tmp_path / "build", manifest, device, deployed.deployment)


def _visits(device: FakeTransport) -> list[str]:
    """The model of each run of the runner, in order."""
    return [Path(argv[argv.index("--model") + 1]).name for argv in device.ran if "--model" in argv]


def test_every_artifact_gets_a_row_and_every_row_is_on_disk(setup: Setup) -> None:
    rows = setup.bench()
    assert [row.artifact for row in rows] == ["tiny.fp32.pte", "tiny.int8-static.pte"]
    assert read_measurements(setup.build) == rows
    assert len({row.session for row in rows}) == 1
    assert len({row.id for row in rows}) == 2


def test_a_row_holds_what_was_counted(setup: Setup) -> None:
    fp32, int8 = setup.bench()
    assert (int8.correct, int8.labelled, int8.total) == (5, 5, SAMPLES)
    assert (int8.agreement_with_host, int8.agree_fp32) == (SAMPLES, SAMPLES)
    assert fp32.agree_fp32 is None
    assert int8.predictions == (0, 1, 2, 3, 0, 1)
    assert len(int8.latencies_ns) == sum(int8.rounds) == 20
    assert (int8.timing, int8.threads, int8.warmup) == ("hardware", 4, 2)
    assert (int8.load_ns, int8.peak_rss_bytes, int8.planned_bytes) == (2_000_000, 8_000_000, 4096)
    assert int8.instructions is None
    assert int8.runner_sha256 == setup.deployment.runners["executorch"]
    assert int8.started_at.endswith("+00:00")


def test_operators_are_timed_in_runs_of_their_own(setup: Setup) -> None:
    plain = setup.bench()
    before = len(setup.device.ran)
    rows = setup.bench(profile=True)
    visits = [argv for argv in setup.device.ran[before:] if "--profile" in argv]

    assert {row.ops for row in plain} == {()}
    assert [row.latencies_ns for row in rows] == [row.latencies_ns for row in plain]
    assert len(visits) == 2 * 5
    for row in rows:
        assert [(op.name, op.ns, op.kind) for op in row.ops] == [
            ("relu.out", 900_000, "operator"),
            ("", 100_008, "unattributed"),
        ]
        assert len(row.profiled_ns) == len(row.unprofiled_ns) == sum(row.profiled_rounds) == 50
        assert row.profiled_instructions is None


def test_what_has_to_be_pushed_for_an_artifact_is_its_file_and_its_runner(setup: Setup) -> None:
    setup.deployment = replace(setup.deployment, runtime_bytes={"executorch": 10_000, "onnxruntime": 7})
    sizes = [artifact.size_bytes for artifact in setup.manifest.artifacts]
    assert [row.pushed_bytes for row in setup.bench()] == [size + 10_000 for size in sizes]
    setup.deployment = replace(setup.deployment, runtime_bytes={})  # of an edgeq that did not note it
    assert [row.pushed_bytes for row in setup.bench()] == [None, None]


def test_artifacts_alternate_in_rounds_whose_order_changes(setup: Setup) -> None:
    setup.bench()
    visits = _visits(setup.device)[6:]  # behind those that look for where each is steady
    rounds = [tuple(visits[start : start + 2]) for start in range(0, 20, 2)]
    assert all(len(set(each)) == 2 for each in rounds)
    assert len(set(rounds)) == 2
    assert visits[20:] == ["tiny.fp32.pte", "tiny.int8-static.pte"]


def test_the_order_is_the_same_each_time(setup: Setup) -> None:
    setup.bench()
    first = _visits(setup.device)
    setup.device.ran.clear()
    setup.bench()
    assert _visits(setup.device) == first


def test_an_emulated_board_counts_instructions_with_one_thread(setup: Setup) -> None:
    setup.emulate()
    rows = setup.bench()
    assert {(row.timing, row.threads, row.warmup, row.instructions, row.rounds) for row in rows} == {
        ("emulated", 1, 2, 1_000_000, (5,))
    }


def test_options_win_over_the_target(setup: Setup) -> None:
    (row,) = setup.bench(artifacts=("tiny.int8-static.pte",), samples=2, repeats=7, threads=(3,))
    assert (row.total, row.labelled, sum(row.rounds), row.threads) == (2, 2, 7, 3)
    assert row.agree_fp32 == 2  # compared with the fp32 outputs of the build machine


def test_fewer_samples_are_spread_over_the_set(setup: Setup) -> None:
    fp32, int8 = setup.bench(samples=3)
    assert (fp32.predictions, fp32.correct, fp32.labelled) == ((0, 2, 0), 3, 3)
    assert (int8.agree_fp32, int8.agreement_with_host) == (3, 3)


def test_time_that_is_short_for_the_first_artifact_bounds_all(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.stages.bench.budget.FEWEST", 2)
    setup.emulate()
    fp32, int8 = bench(
        setup.build,
        setup.manifest,
        setup.deployment,
        setup.device,
        replace(setup.settings(), budget_s=1e-9),
        progress=Silent(),
    )
    assert (fp32.total, int8.total) == (2, 2)
    assert fp32.predictions == int8.predictions == (0, 0)
    assert int8.agree_fp32 == 2


def test_more_samples_than_there_are_is_all_of_them(setup: Setup) -> None:
    assert setup.bench(samples=1000)[0].total == SAMPLES


def test_wrong_answers_of_the_device_are_counted(setup: Setup) -> None:
    def answer(model: str, sample: bytes) -> bytes:
        scores = np.frombuffer(sample, dtype=np.float32)
        return np.where(scores.argmax() == 3, scores[::-1], scores).tobytes() if "int8" in model else sample

    setup.device.answer = answer
    _, int8 = setup.bench()
    assert (int8.correct, int8.agreement_with_host, int8.agree_fp32) == (4, 5, 5)
    assert int8.predictions[3] == 0


def test_scores_that_are_not_a_number_agree_with_nothing(setup: Setup) -> None:
    golden = np.load(setup.build / "evaluation/input0.npy")[0].tobytes()
    setup.device.answer = lambda _, sample: sample if sample == golden else np.full(4, np.nan, np.float32).tobytes()
    fp32, int8 = setup.bench()
    assert (fp32.correct, fp32.agreement_with_host) == (2, 2)
    assert int8.agree_fp32 == 2
    assert fp32.predictions[1] == NO_ANSWER


def test_an_artifact_that_computes_something_else_there_is_an_error(setup: Setup) -> None:
    setup.device.answer = lambda _, sample: np.frombuffer(sample, dtype=np.float32)[::-1].tobytes()
    with pytest.raises(WrongOutputError, match="dB"):
        setup.bench()
    assert not read_measurements(setup.build)


def test_an_output_of_another_size_is_an_error(setup: Setup) -> None:
    setup.device.answer = lambda _, sample: sample[:8]
    with pytest.raises(WrongOutputError):
        setup.bench()


def test_another_rounding_is_no_error(setup: Setup) -> None:
    setup.device.answer = lambda _, sample: (np.frombuffer(sample, dtype=np.float32) * np.float32(1.01)).tobytes()
    assert setup.bench()[0].correct == 5


@pytest.mark.parametrize("outputs", [0, 1, 20, 33])
def test_a_device_that_dies_keeps_the_rows_before(setup: Setup, outputs: int) -> None:
    setup.device.faults.dies_after_outputs = len(setup.manifest.artifacts) + outputs  # each was tried when deployed
    with pytest.raises(ConnectionLostError) as caught:
        setup.bench()
    assert caught.value.exit_code == 4
    assert [row.artifact for row in read_measurements(setup.build)] == ["tiny.fp32.pte"][: outputs // 33]


def test_a_row_after_a_torn_one_is_readable(setup: Setup) -> None:
    setup.bench()
    path = measurements_path(setup.build)
    path.write_bytes(path.read_bytes()[:-100])
    assert len(read_measurements(setup.build)) == 1
    setup.bench()
    assert len(read_measurements(setup.build)) == 3


def test_an_unknown_artifact_is_an_error_with_the_nearest_name(setup: Setup) -> None:
    with pytest.raises(UnknownNameError) as caught:
        setup.bench(artifacts=("tiny.int8.pte",))
    assert "tiny.int8-static.pte" in caught.value.hint


def test_a_build_that_changed_since_it_was_deployed_is_refused(setup: Setup) -> None:
    first = replace(setup.manifest.artifacts[0], sha256="0" * 64)
    setup.manifest = replace(setup.manifest, artifacts=(first,))
    with pytest.raises(CorruptArtifactError):
        setup.bench()
    setup.manifest = tiny_build(setup.build)
    setup.deployment = replace(setup.deployment, artifacts={})
    with pytest.raises(StaleDeploymentError, match=r"tiny\.fp32"):
        setup.bench()
    setup.deployment = replace(setup.deployment, model="another")
    with pytest.raises(StaleDeploymentError, match="another"):
        setup.bench()


def test_a_deployment_that_is_gone_or_changed_on_the_device_is_told(setup: Setup, tmp_path: Path) -> None:
    artifact = tmp_path / "device" / setup.deployment.root / "tiny.fp32.pte"
    artifact.chmod(0o644)
    artifact.write_bytes(b"other")
    with pytest.raises(DeploymentGoneError, match=r"tiny\.fp32\.pte"):
        setup.bench()
    setup.device = FakeTransport(tmp_path / "another")
    with pytest.raises(DeploymentGoneError, match="edgeq-runner-executorch"):
        setup.bench()


@pytest.mark.parametrize("what", ["golden", "evaluation/input0.npy", "evaluation/labels.npy", "evaluation/host"])
def test_a_damaged_build_is_an_error_before_the_row(setup: Setup, what: str) -> None:
    path = setup.build / what
    for file in path.iterdir() if path.is_dir() else [path]:
        file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ConfigError):
        setup.bench()
    assert not read_measurements(setup.build)


def test_a_runner_that_answers_nonsense_is_an_error(setup: Setup) -> None:
    setup.device._run = lambda _argv, _stdin: iter([b"surprise\n"])  # type: ignore[method-assign]
    with pytest.raises(RunnerProtocolError):
        setup.bench()


def test_another_metric_is_left_to_the_host(setup: Setup) -> None:
    setup.manifest = replace(setup.manifest, evaluation=replace(setup.manifest.evaluation, metric="iou.py:counts"))
    row = setup.bench()[0]
    assert (row.correct, row.agreement_with_host, row.total, row.predictions) == (None, None, 0, ())
    assert row.latencies_ns


def test_temperatures_are_kept_with_the_row(setup: Setup) -> None:
    setup.device._health = "zone cpu-thermal 55000\nthrottled 0\n"
    row = setup.bench()[0]
    assert (row.celsius, row.throttled) == ((55.0, 55.0), False)
