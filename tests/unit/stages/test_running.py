from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from edgeq import errors, records
from edgeq.evaluation import GrowingArray
from edgeq.progress import SILENT
from edgeq.stages import running as running_stage
from edgeq.stages.running import Beside, Failure, Job, outputs_file, runner

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = 5


class Heard:
    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def advance(self, done: int, total: int | None = None) -> None:
        pass


@pytest.fixture
def build(tmp_path: Path) -> Path:
    with GrowingArray(tmp_path / "evaluation" / "input0.npy", (3,), "float32") as rows:
        for index in range(SAMPLES):
            rows.append(np.full(3, index))
    return tmp_path


def _artifact(build: Path, operator: str, name: str = "small.onnx") -> str:
    value = [helper.make_tensor_value_info(which, TensorProto.FLOAT, [1, 3]) for which in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "graph", value[:1], value[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), build / name)
    return name


def _job(build: Path, name: str, *, golden: bool = True) -> Job:
    data = records.EvaluationData(
        samples=SAMPLES, metric="top1", inputs=("evaluation/input0.npy",), labels=None, host_outputs={}
    )
    return Job(build=str(build), name=name, format="onnx", threads=1, evaluation=data, golden=golden)


def test_it_makes_no_difference_where_an_artifact_runs(build: Path) -> None:
    outputs, pairs = [], []
    for jobs in (1, 2):
        with runner(jobs) as running:
            running.begin(_job(build, _artifact(build, "Exp")), SILENT)
            pairs.append(running.result(SILENT))
        outputs.append((build / outputs_file("small.onnx")).read_bytes())
    assert outputs[0] == outputs[1]
    assert pairs[0] == pairs[1] is not None


def test_jobs_are_answered_in_their_order_each_by_its_name(build: Path) -> None:
    heard = Heard()
    with runner(2) as running:
        for operator in ("Exp", "Neg"):
            running.begin(_job(build, _artifact(build, operator, operator)), heard)
        assert not heard.steps
        first, second = running.result(heard), running.result(heard)
    assert first is not None
    assert second is not None
    assert first.input_sha256 == second.input_sha256
    assert first.output_sha256 != second.output_sha256
    assert heard.steps == ["scoring Exp on this machine", "scoring Neg on this machine"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_the_same_wherever_it_was_met(jobs: int, build: Path) -> None:
    (build / "damaged.onnx").write_bytes(b"no model")
    with runner(jobs) as running, pytest.raises(errors.ArtifactError, match=r"damaged\.onnx does not run") as caught:
        running.begin(_job(build, "damaged.onnx"), SILENT)
        running.result(SILENT)
    assert caught.value.hint == "build it again with edgeq build"


def test_after_an_error_the_other_process_takes_the_next_job(build: Path) -> None:
    (build / "damaged.onnx").write_bytes(b"no model")
    with runner(2) as running:
        running.begin(_job(build, "damaged.onnx"), SILENT)
        running.begin(_job(build, _artifact(build, "Exp")), SILENT)
        with pytest.raises(errors.ArtifactError):
            running.result(SILENT)
        assert running.result(SILENT) is not None


def test_a_bug_in_the_other_process_is_told_with_its_traceback() -> None:
    told = Failure.of(ZeroDivisionError()).error()
    assert isinstance(told, RuntimeError)
    assert "ZeroDivisionError" in str(told)


def test_a_process_that_was_killed_is_an_error_with_a_remedy(build: Path) -> None:
    with runner(2) as running, pytest.raises(errors.ScoringStoppedError, match="signal 9") as caught:
        assert isinstance(running, Beside)
        os.kill(running._process.pid, signal.SIGKILL)
        running.begin(_job(build, _artifact(build, "Exp")), SILENT)
        running.result(SILENT)
    assert "--jobs 1" in caught.value.hint


def test_the_other_process_ends_with_the_block(build: Path) -> None:
    with runner(2) as running:
        assert isinstance(running, Beside)
        process = running._process
        running.begin(_job(build, _artifact(build, "Exp")), SILENT)
    assert process.poll() is not None


def test_no_golden_pair_is_kept_unless_asked_for(build: Path) -> None:
    with runner(1) as running:
        running.begin(_job(build, _artifact(build, "Exp"), golden=False), SILENT)
        assert running.result(SILENT) is None
    assert not (build / "golden").exists()


def test_ctrl_c_is_for_the_build_to_act_on(build: Path) -> None:
    with runner(2) as running:
        assert isinstance(running, Beside)
        running.begin(_job(build, _artifact(build, "Exp")), SILENT)
        running.result(SILENT)
        os.kill(running._process.pid, signal.SIGINT)
        running.begin(_job(build, _artifact(build, "Exp")), SILENT)
        assert running.result(SILENT) is not None


def test_without_anybody_to_give_it_jobs_it_ends() -> None:
    done = subprocess.run([sys.executable, "-m", running_stage.__name__], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
