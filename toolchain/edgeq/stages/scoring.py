"""Artifacts on the evaluation set, each in its own runtime on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edgeq import records, stats
from edgeq.errors import UnlabelledError
from edgeq.evaluation import UNLABELLED, EvaluationSet, GrowingArray
from edgeq.files import sha256_file
from edgeq.stages.running import Job, outputs_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgeq.model import Dataset
    from edgeq.progress import Progress
    from edgeq.project import Project
    from edgeq.stages.running import Runner


def keep_evaluation(
    evaluation: Dataset, folder: Path, project: Project, *, progress: Progress
) -> records.EvaluationData:
    """Copy the evaluation set, as the artifacts take it, into the build at ``folder``, one sample at a time.

    UnlabelledError without a label, NotBytesError for a sample that is no
    image of bytes where the artifacts take bytes.
    """
    progress.step("reading the evaluation set")
    pixels = project.pixels
    specs = [(spec.shape, spec.dtype) for spec in project.model.inputs] if pixels is None else [(pixels.shape, "uint8")]
    names = tuple(f"evaluation/input{index}.npy" for index in range(len(specs)))
    labelled = 0
    with ExitStack() as stack:
        arrays = [
            stack.enter_context(GrowingArray(folder / name, shape[1:], dtype))
            for name, (shape, dtype) in zip(names, specs, strict=True)
        ]
        labels = stack.enter_context(GrowingArray(folder / "evaluation/labels.npy", (), "int64"))
        count = 0
        for sample in evaluation:
            rows = [tensor.numpy() for tensor in sample.inputs]
            if pixels is not None:
                rows = [pixels.to_bytes(row, where=evaluation.where, index=count) for row in rows]
            for array, row in zip(arrays, rows, strict=True):
                array.append(row[0])
            labels.append(np.asarray(UNLABELLED if sample.label is None else sample.label))
            labelled += sample.label is not None
            count += 1
            progress.advance(count)
    if not labelled:
        raise UnlabelledError(project.data.evaluation, project.data.metric)
    return records.EvaluationData(
        samples=count,
        metric=project.data.metric,
        inputs=names,
        labels="evaluation/labels.npy",
        host_outputs={},
        note=evaluation.note,
    )


class Scorer:
    """Runs artifacts on one evaluation set and remembers their outputs for the comparisons.

    ``folder`` is the build that holds the set; ``data`` describes it. An
    artifact is begun, and asked for when its outputs are needed: until then
    a ``runner`` beside this process may be at it.
    """

    def __init__(
        self, folder: Path, data: records.EvaluationData, threads: int, runner: Runner, progress: Progress
    ) -> None:
        self._folder = folder
        self._data = data
        self._set = EvaluationSet(folder, data)
        self._threads = threads
        self._runner = runner
        self._progress = progress
        self._begun: list[str] = []
        self._golden: dict[str, records.Golden] = {}
        self._host_outputs: dict[str, str] = {}

    def begin(self, path: Path, form: records.Format, *, golden: bool, stand_in: str = "") -> None:
        """Begin to run the artifact at ``path`` on every sample; with ``golden``, keep the first and its outputs.

        ``stand_in``, relative to the build, is run in its place if it is given.
        """
        job = Job(
            build=str(self._folder),
            name=path.name,
            format=form,
            threads=self._threads,
            evaluation=self._data,
            golden=golden,
            stand_in=stand_in,
        )
        self._runner.begin(job, self._progress)
        self._begun.append(path.name)

    def score(self, name: str, *, twin: str | None, scored: str = "") -> records.HostScore:
        """What an artifact that was begun gave, compared with the fp32 ``twin`` that was begun before.

        ``scored`` says what was run in its place, if something was.
        """
        outputs = self._outputs(name)
        reference = None if twin is None else self._outputs(twin)
        sqnr_db = None if reference is None else stats.sqnr_db(reference, outputs)
        return records.HostScore(
            metric=self._data.metric,
            correct=int(self.right(name).sum()),
            labelled=int(self._labelled.sum()),
            total=len(outputs),
            agree=None if reference is None else stats.agreements(reference, outputs),
            sqnr_db=_finite(sqnr_db),
            identical=sqnr_db == math.inf,
            not_finite=sum(not np.isfinite(row).all() for row in outputs),
            scored=scored,
        )

    def right(self, name: str) -> NDArray[np.bool_]:
        """Whether the top-1 of an artifact that was begun is the label, for each labelled sample."""
        labels, labelled = self._set.labels, self._labelled
        assert labels is not None  # noqa: S101  # a build keeps none without labels
        found: NDArray[np.bool_] = stats.top1(self._outputs(name))[labelled] == labels[labelled]
        return found

    def forget(self, name: str) -> None:
        """Drop the outputs of an artifact that does not become part of the build, as far as it has any."""
        self._host_outputs.pop(name, None)
        (self._folder / outputs_file(name)).unlink(missing_ok=True)

    def rest(self) -> None:
        """Wait until all that was begun has ended: what is to be timed needs the processor for itself."""
        for name in tuple(self._begun):
            self._outputs(name)

    def first_sample(self) -> bytes:
        """One sample as a runner takes it."""
        return b"".join(np.ascontiguousarray(array).tobytes() for array in self._set.sample(0))

    def golden(self, name: str) -> records.Golden:
        """The first sample and the output for it of an artifact that was begun with ``golden`` and scored."""
        return self._golden[name]

    def data(self) -> records.EvaluationData:
        """The evaluation set with the outputs of every artifact scored so far."""
        return dataclasses.replace(self._data, host_outputs=dict(self._host_outputs))

    def cross_checks(self, artifacts: Sequence[records.Artifact]) -> tuple[records.CrossCheck, ...]:
        """Compare the two formats of each recipe: one graph, so the outputs must be near."""
        by_recipe: dict[str, dict[str, str]] = {}
        for artifact in artifacts:
            by_recipe.setdefault(artifact.recipe, {})[artifact.format] = artifact.name
        checks = []
        for recipe, names in by_recipe.items():
            if len(names) == len(records.FORMATS):
                pte, onnx = (self._outputs(names[form]) for form in records.FORMATS)
                sqnr_db = stats.sqnr_db(pte, onnx)
                checks.append(
                    records.CrossCheck(
                        recipe=recipe,
                        agree=stats.agreements(pte, onnx),
                        total=len(pte),
                        sqnr_db=_finite(sqnr_db),
                        identical=sqnr_db == math.inf,
                    )
                )
        return tuple(checks)

    @cached_property
    def sha256(self) -> str:
        """Of every input and label of the set."""
        files = (*self._data.inputs, *([self._data.labels] if self._data.labels else ()))
        return hashlib.sha256("".join(sha256_file(self._folder / name) for name in files).encode()).hexdigest()

    @property
    def _labelled(self) -> NDArray[np.bool_]:
        labelled: NDArray[np.bool_] = np.asarray(self._set.labels) != UNLABELLED
        return labelled

    def _outputs(self, name: str) -> np.ndarray:
        while name not in self._host_outputs:
            ended = self._begun.pop(0)
            golden = self._runner.result(self._progress)
            self._host_outputs[ended] = outputs_file(ended)
            if golden is not None:
                self._golden[ended] = golden
        outputs: np.ndarray = np.load(self._folder / self._host_outputs[name], mmap_mode="r")
        return outputs


def _finite(sqnr_db: float | None) -> float | None:
    """None where two outputs are identical or one is not finite: JSON has no infinity."""
    return sqnr_db if sqnr_db is not None and math.isfinite(sqnr_db) else None
