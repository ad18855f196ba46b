"""What is said of outputs on the evaluation set, whatever runtime gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import torch

from edgeq import errors, records
from edgeq.evaluation import GrowingArray
from edgeq.model import Dataset
from edgeq.progress import SILENT
from edgeq.project import DataSection, InputSpec, ModelSection, PreprocessSection, Project
from edgeq.stages import running, scoring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLES = 4


class Runtime:
    """Gives the outputs that were written to a file, one a call, in the place of an artifact's."""

    def __init__(self, path: Path, _form: str, threads: int) -> None:
        assert threads == 1
        self._outputs = iter(np.load(path))

    def run(self, _inputs: object) -> tuple[np.ndarray, ...]:
        return (next(self._outputs),)


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> scoring.Scorer:
    monkeypatch.setattr(running, "HostRuntime", Runtime)
    for name, shape, dtype in (("input0", (3,), "float32"), ("labels", (), "int64")):
        with GrowingArray(tmp_path / "evaluation" / f"{name}.npy", shape, dtype) as rows:
            for index in range(SAMPLES):
                rows.append(np.full(shape, index))
    data = records.EvaluationData(
        samples=SAMPLES,
        metric="top1",
        inputs=("evaluation/input0.npy",),
        labels="evaluation/labels.npy",
        host_outputs={},
    )
    return scoring.Scorer(tmp_path, data, 1, running.Here(), SILENT)


def _scored(scorer: scoring.Scorer, folder: Path, outputs: np.ndarray, *, twin: str | None) -> records.HostScore:
    path = folder / ("int8.onnx" if twin else "fp32.onnx")
    with path.open("wb") as file:
        np.save(file, outputs.astype(np.float32))
    scorer.begin(path, "onnx", golden=False)
    return scorer.score(path.name, twin=twin)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, (True, 0, 4)), ({1: np.nan}, (False, 1, 3)), ({0: np.inf, 1: np.nan}, (False, 2, 3))],
)
def test_outputs_that_are_not_finite_are_counted_and_are_not_identical_ones(
    scorer: scoring.Scorer, tmp_path: Path, change: dict[int, float], expected: tuple[bool, int, int]
) -> None:
    outputs = np.eye(SAMPLES).reshape(SAMPLES, 1, SAMPLES)
    reference = _scored(scorer, tmp_path, outputs, twin=None)
    assert (reference.sqnr_db, reference.identical, reference.not_finite) == (None, False, 0)
    for index, value in change.items():
        outputs[index, 0, index] = value
    host = _scored(scorer, tmp_path, outputs, twin="fp32.onnx")
    assert host.sqnr_db is None
    assert (host.identical, host.not_finite, host.agree) == expected


def test_both_outputs_not_finite_alike_are_not_identical(scorer: scoring.Scorer, tmp_path: Path) -> None:
    outputs = np.full((SAMPLES, 1, SAMPLES), np.nan)
    _scored(scorer, tmp_path, outputs, twin=None)
    host = _scored(scorer, tmp_path, outputs, twin="fp32.onnx")
    assert (host.identical, host.not_finite, host.agree, host.correct) == (False, SAMPLES, 0, 0)


@pytest.mark.parametrize("shape", [(), (10,)])
def test_an_output_without_a_batch_dimension_has_no_top1(
    scorer: scoring.Scorer, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(errors.NoClassesError, match=r"top-1 needs \(batch, classes\)") as caught:
        _scored(scorer, tmp_path, np.zeros((SAMPLES, *shape)), twin=None)
    assert str(list(shape)) in caught.value.message


def test_a_single_score_with_its_batch_dimension_is_taken(scorer: scoring.Scorer, tmp_path: Path) -> None:
    assert _scored(scorer, tmp_path, np.zeros((SAMPLES, 1)), twin=None).correct == 1


def _project(*, layout: Literal["NCHW", "NHWC"]) -> Project:
    return Project(
        model=ModelSection(name="tiny", factory="model.py:load", inputs=(InputSpec(shape=(1, 3, 4, 5)),)),
        data=DataSection(evaluation="data.py:evaluation"),
        preprocess=PreprocessSection(layout=layout, mean=(10.0, 20.0, 30.0), std=(2.0,), folded=True),
    )


def _images(raw: np.ndarray, project: Project) -> Dataset:
    mean = np.array([10, 20, 30], np.float32).reshape(1, 3, 1, 1)

    def samples() -> Iterator[tuple[torch.Tensor, int]]:
        for label, image in enumerate(raw):
            yield torch.from_numpy((image[np.newaxis] - mean) / np.float32(2)), label

    return Dataset(samples, project.model.inputs, where="data.py:evaluation", labelled=True)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_build_whose_artifacts_take_bytes_keeps_bytes(layout: Literal["NCHW", "NHWC"], tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 5)).astype(np.uint8)
    project = _project(layout=layout)

    data = scoring.keep_evaluation(_images(raw, project), tmp_path, project, progress=SILENT)

    kept = np.load(tmp_path / data.inputs[0])
    assert kept.dtype == np.uint8
    np.testing.assert_array_equal(kept, raw if layout == "NCHW" else raw.transpose(0, 2, 3, 1))


def test_a_sample_that_was_resized_in_float_is_refused_by_name(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 255, (3, 3, 4, 5)).astype(np.float32)
    raw[2, 1, 0, 0] += 0.5
    project = _project(layout="NCHW")

    with pytest.raises(errors.NotBytesError, match=r"sample 2 of data.py:evaluation .* channel 1"):
        scoring.keep_evaluation(_images(raw, project), tmp_path, project, progress=SILENT)
