"""The evaluation set through an artifact on the device: what it answers, and with whom it agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeq import stats
from edgeq.errors import CorruptArtifactError
from edgeq.evaluation import UNLABELLED
from edgeq.stages.bench.budget import Budget
from edgeq.stages.deployed import bytes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.evaluation import EvaluationSet
    from edgeq.progress import Progress
    from edgeq.records import Artifact
    from edgeq.stages.bench.place import Place


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The top-1 of the samples that were run: ``predictions[i]`` for sample ``indices[i]``, ascending."""

    indices: NDArray[np.int64]
    predictions: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Counts over ``total`` samples, and the top-1 of each; the fields of :class:`~edgeq.records.Measurement`."""

    predictions: tuple[int, ...] = ()
    total: int = 0
    labelled: int = 0
    correct: int | None = None
    agreement_with_host: int | None = None
    agree_fp32: int | None = None


def answer(  # noqa: PLR0913  # what is run, where, and how much of it
    place: Place,
    artifact: Artifact,
    *,
    threads: int,
    order: NDArray[np.int64],
    budget_s: float | None,
    progress: Progress,
) -> Answers:
    """Run samples in this order, all of them or as many as ``budget_s`` allows.

    Nothing but one sample and one output is held. Raises DeviceError, or
    CorruptArtifactError if the outputs are not as the manifest says.
    """
    progress.step(f"running {'up to ' if budget_s else ''}{len(order)} samples through {artifact.name}")
    budget = Budget(math.inf if budget_s is None else budget_s, len(order))
    predictions: list[int] = []
    first = artifact.outputs[0]
    size = bytes_of(first)

    def allowed() -> Iterator[int]:
        for sent, index in enumerate(order):
            if not budget.allows(sent):
                return
            yield int(index)

    def take(_index: int, data: bytes) -> None:
        if len(data) < size:
            raise CorruptArtifactError(
                artifact.name, f"gives {len(data)} bytes where the manifest says {size} for its first output"
            )
        predictions.append(int(stats.top1(np.frombuffer(data[:size], dtype=first.dtype)[np.newaxis])[0]))
        budget.answered()
        progress.advance(len(predictions), len(order))

    samples = place.samples(artifact, allowed())
    place.run(artifact, threads=threads, warmup=0, repeats=0, samples=samples, on_outputs=take)
    ran = order[: len(predictions)]
    ascending = np.argsort(ran)
    return Answers(indices=ran[ascending], predictions=np.array(predictions, dtype=np.int64)[ascending])


def host_predictions(evaluation: EvaluationSet, artifact: Artifact, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The top-1 of those samples as the artifact gave them on the build machine."""
    return stats.top1(evaluation.host_outputs(artifact.name)[indices])


def count(answers: Answers, evaluation: EvaluationSet, artifact: Artifact, twin: NDArray[np.int64] | None) -> Scores:
    """Hold the answers against the labels, the build machine's, and ``twin``, the fp32 artifact's (None for itself)."""
    indices, predictions = answers.indices, answers.predictions
    labels = np.full(len(indices), UNLABELLED) if evaluation.labels is None else evaluation.labels[indices]
    labelled = labels != UNLABELLED
    return Scores(
        predictions=tuple(predictions.tolist()),
        total=len(indices),
        labelled=int(labelled.sum()),
        correct=int((predictions[labelled] == labels[labelled]).sum()) if labelled.any() else None,
        agreement_with_host=_agreements(predictions, host_predictions(evaluation, artifact, indices)),
        agree_fp32=None if twin is None else _agreements(predictions, twin),
    )


def _agreements(predictions: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """How many are equal; no answer agrees with nothing."""
    return int(((predictions == others) & (predictions != stats.NO_ANSWER)).sum())
