"""Measure a deployed build: how long an inference takes, and what comes out, on the device itself.

First every artifact is timed, in rounds: each round visits all of them in a
random order, so that a device that warms up or slows down does so to all
alike; a few short rounds before tell how many threads each of them gets.
Then each runs the evaluation set. A row is written as soon as an
artifact is finished; a device that dies costs the rest, not what was
measured.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from edgeq.runner import BACK_TO_BACK
from edgeq.stages.bench.accuracy import Answers, Scores, answer, count, host_predictions
from edgeq.stages.bench.leak import check_leak
from edgeq.stages.bench.place import Place
from edgeq.stages.bench.plan import Settings, settings
from edgeq.stages.bench.profile import NOT_PROFILED, profile_all
from edgeq.stages.bench.row import Session, row_of
from edgeq.stages.bench.rows import append, measurements_path, read_measurements, read_rows
from edgeq.stages.bench.session import take
from edgeq.stages.bench.threads import Choice, choose_threads
from edgeq.stages.bench.timing import Entrant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgeq.device.transport import Transport
    from edgeq.evaluation import EvaluationSet
    from edgeq.progress import Progress
    from edgeq.records import Artifact, Deployment, LeakCheck, Manifest, Measurement

__all__ = ["Settings", "bench", "measurements_path", "read_measurements", "read_rows", "settings"]

METRIC = "top1"
FP32 = "fp32"


def bench(  # noqa: PLR0913  # a build, where it lies, and how to measure it
    build: Path,
    manifest: Manifest,
    deployment: Deployment,
    transport: Transport,
    how: Settings,
    *,
    progress: Progress,
) -> tuple[Measurement, ...]:
    """Measure the artifacts of a deployed build and append a row for each to BUILD/measurements.jsonl.

    Raises ConfigError if the build, the deployment and the device do not
    belong together, WrongOutputError if an artifact computes something else
    there, UnfitDeviceError if the device is too busy or too hot, DeviceError
    if it fails; rows of artifacts that were finished before are on disk then.
    """
    artifacts = manifest.chosen(how.artifacts)
    progress.step("checking build and deployment")
    place = Place.of(build, manifest, deployment, transport, how)
    place.check(manifest, artifacts)

    choices: dict[str, Choice] = {}

    def choose() -> list[Entrant]:
        choices.update(choose_threads(place, artifacts, progress=progress))
        return [Entrant(place=place, artifact=one, threads=choices[one.name].threads) for one in artifacts]

    taken = take(place, choose, progress=progress)
    timed = {artifact.name: one for artifact, one in zip(artifacts, taken.timed, strict=True)}
    profiled = profile_all(place, artifacts, timed, progress=progress) if how.profile else {}
    leaks = _leaks(taken.entrants, progress=progress) if how.leak_check else {}
    session = Session(id=secrets.token_hex(8), deployment=deployment, how=how, states=taken.states, unfit=taken.unfit)
    warm_ups = {artifact.name: one for artifact, one in zip(artifacts, taken.warm_ups, strict=True)}
    rows: list[Measurement] = []
    for artifact, scores in _score_all(place, manifest, artifacts, choices, progress=progress):
        row = row_of(
            session,
            artifact,
            timed[artifact.name],
            scores,
            tried=choices[artifact.name].tried,
            warm_up=warm_ups[artifact.name],
            pinned=place.pinning(choices[artifact.name].threads),
            profiled=profiled.get(artifact.name, NOT_PROFILED),
            leak=leaks.get(artifact.name),
        )
        append(build, row)
        rows.append(row)
    return tuple(rows)


def _leaks(entrants: Sequence[Entrant], *, progress: Progress) -> dict[str, LeakCheck]:
    progress.step("looking for leaks")
    found = {}
    for done, entrant in enumerate(entrants):
        progress.advance(done, len(entrants))
        found[entrant.artifact.name] = check_leak(entrant)
    return found


def _score_all(
    place: Place,
    manifest: Manifest,
    artifacts: Sequence[Artifact],
    choices: Mapping[str, Choice],
    *,
    progress: Progress,
) -> Iterator[tuple[Artifact, Scores]]:
    """The scores of one artifact after the other, the fp32 ones first, as the others are compared with them.

    Where time is short the first one decides how many samples all of them
    run: the same ones, as they are compared sample by sample.
    """
    evaluation, how = place.evaluation, place.how
    order, budget_s = evaluation.spread()[: how.samples], how.budget_s
    answers: dict[str, Answers] = {}
    for artifact in sorted(artifacts, key=lambda one: one.recipe != FP32):
        if how.pace != BACK_TO_BACK:
            yield artifact, Scores()  # a pace changes times and nothing else
            continue
        if manifest.evaluation.metric != METRIC:
            progress.step(f"{artifact.name}: the metric {manifest.evaluation.metric!r} is computed on the host only")
            yield artifact, Scores()
            continue
        threads = choices[artifact.name].threads
        given = answer(place, artifact, threads=threads, order=order, budget_s=budget_s, progress=progress)
        answers[artifact.name] = given
        order, budget_s = order[: len(given.indices)], None
        twin = _twins_answers(manifest, artifact, evaluation, answers, given.indices)
        yield artifact, count(given, evaluation, artifact, twin)


def _twins_answers(
    manifest: Manifest,
    artifact: Artifact,
    evaluation: EvaluationSet,
    answers: Mapping[str, Answers],
    indices: NDArray[np.int64],
) -> NDArray[np.int64] | None:
    """The top-1 of the fp32 artifact of the same format: of this session, else of the build machine."""
    for twin in manifest.artifacts:
        if twin.format == artifact.format and twin.recipe == FP32 and twin.name != artifact.name:
            if twin.name in answers:
                return answers[twin.name].predictions
            return host_predictions(evaluation, twin, indices)
    return None
