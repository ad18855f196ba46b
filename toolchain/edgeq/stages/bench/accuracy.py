"""The evaluation set through an artifact on the device: what it answers, and with whom it agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeq import stats
from edgeq.errors import CorruptArtifactError
from edgeq.evaluation import UNLABELLED
from edgeq.stages.bench.place import bytes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeq.evaluation import EvaluationSet
    from edgeq.progress import Progress
    from edgeq.records import Artifact
    from edgeq.stages.bench.place import Place


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Counts over ``total`` samples, and the top-1 of each; the fields of :class:`~edgeq.records.Measurement`."""

    predictions: tuple[int, ...]
    total: int
    labelled: int
    correct: int | None
    agreement_with_host: int | None
    agree_fp32: int | None


def score_nothing() -> Scores:
    """No sample was run."""
    return Scores(predictions=(), total=0, labelled=0, correct=None, agreement_with_host=None, agree_fp32=None)


def host_predictions(evaluation: EvaluationSet, artifact: Artifact, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The top-1 of those samples as the artifact gave them on the build machine."""
    return stats.top1(evaluation.host_outputs(artifact.name)[indices])


def score(
    place: Place, artifact: Artifact, *, indices: NDArray[np.int64], twin: NDArray[np.int64] | None, progress: Progress
) -> Scores:
    """Run the samples ``indices`` on the device, one at a time, and count.

    ``twin`` holds the top-1 of the fp32 artifact for the same samples, None
    for that one itself. Nothing but one sample and one output is held.
    """
    samples = len(indices)
    progress.step(f"running {samples} samples through {artifact.name} on {place.transport.name}")
    predictions = np.full(samples, stats.NO_ANSWER, dtype=np.int64)
    first = artifact.outputs[0]
    size = bytes_of(first)

    def take(index: int, data: bytes) -> None:
        if len(data) < size:
            raise CorruptArtifactError(
                artifact.name, f"gives {len(data)} bytes where the manifest says {size} for its first output"
            )
        predictions[index] = stats.top1(np.frombuffer(data[:size], dtype=first.dtype)[np.newaxis])[0]
        progress.advance(index + 1, samples)

    place.run(artifact, warmup=0, repeats=0, samples=place.samples(artifact, indices), on_outputs=take)
    return _count(predictions, indices, place.evaluation, artifact, twin)


def _count(
    predictions: NDArray[np.int64],
    indices: NDArray[np.int64],
    evaluation: EvaluationSet,
    artifact: Artifact,
    twin: NDArray[np.int64] | None,
) -> Scores:
    labels = np.full(len(indices), UNLABELLED) if evaluation.labels is None else evaluation.labels[indices]
    labelled = labels != UNLABELLED
    host = host_predictions(evaluation, artifact, indices)
    return Scores(
        predictions=tuple(int(prediction) for prediction in predictions),
        total=len(indices),
        labelled=int(labelled.sum()),
        correct=int((predictions[labelled] == labels[labelled]).sum()) if labelled.any() else None,
        agreement_with_host=_agreements(predictions, host),
        agree_fp32=None if twin is None else _agreements(predictions, twin),
    )


def _agreements(predictions: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """How many are equal; no answer agrees with nothing."""
    return int(((predictions == others) & (predictions != stats.NO_ANSWER)).sum())
