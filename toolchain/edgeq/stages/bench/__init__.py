"""Measure a deployed build: how long an inference takes, and what comes out, on the device itself.

First every artifact is timed, in rounds: each round visits all of them in a
random order, so that a device that warms up or slows down does so to all
alike; a few short rounds before tell how many threads each of them gets.
Then each runs the evaluation set. A row is written as soon as an
artifact is finished; a device that dies costs the rest, not what was
measured.
"""

from __future__ import annotations

import datetime as dt
import secrets
import statistics
from typing import TYPE_CHECKING

from edgeq.device.health import read_state
from edgeq.errors import UnknownNameError
from edgeq.evaluation import EvaluationSet
from edgeq.records import Measurement
from edgeq.stages.bench.accuracy import Answers, Scores, answer, count, host_predictions
from edgeq.stages.bench.place import Place
from edgeq.stages.bench.plan import Settings, settings
from edgeq.stages.bench.profile import NOT_PROFILED, Profiled, profile_all
from edgeq.stages.bench.rows import append, measurements_path, read_measurements, read_rows
from edgeq.stages.bench.threads import Choice, choose_threads
from edgeq.stages.bench.timing import Entrant, Timed, time_in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgeq.device.transport import Transport
    from edgeq.progress import Progress
    from edgeq.records import Artifact, Deployment, DeviceState, Manifest, ThreadsTried

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
    there, DeviceError if the device fails; rows of artifacts that were
    finished before are on disk then.
    """
    artifacts = _chosen(manifest, how.artifacts)
    evaluation = EvaluationSet.of(build, manifest)
    place = Place(build=build, deployment=deployment, transport=transport, evaluation=evaluation, how=how)
    progress.step("checking build and deployment")
    place.check(manifest, artifacts)

    before = read_state(transport)
    choices = choose_threads(place, artifacts, progress=progress)
    timed = _time(place, artifacts, choices, progress=progress)
    threads = {name: choice.threads for name, choice in choices.items()}
    profiled = profile_all(place, artifacts, threads, progress=progress) if how.profile else {}
    after = read_state(transport)

    session = secrets.token_hex(8)
    rows: list[Measurement] = []
    for artifact, scores in _score_all(place, manifest, artifacts, choices, progress=progress):
        row = _row(
            artifact,
            deployment,
            how,
            timed[artifact.name],
            scores,
            tried=choices[artifact.name].tried,
            profiled=profiled.get(artifact.name, NOT_PROFILED),
            session=session,
            states=(before, after),
        )
        append(build, row)
        rows.append(row)
    return tuple(rows)


def _time(
    place: Place, artifacts: Sequence[Artifact], choices: Mapping[str, Choice], *, progress: Progress
) -> dict[str, Timed]:
    """Time every artifact with the threads chosen for it; by its name."""
    timed = time_in_turn(
        [Entrant(place=place, artifact=artifact, threads=choices[artifact.name].threads) for artifact in artifacts],
        place.how.rounds,
        warmup=place.how.warmup,
        doing=f"timing {len(artifacts)} artifacts",
        progress=progress,
    )
    return {artifact.name: one for artifact, one in zip(artifacts, timed, strict=True)}


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


def _chosen(manifest: Manifest, names: Sequence[str]) -> tuple[Artifact, ...]:
    known = {artifact.name: artifact for artifact in manifest.artifacts}
    for name in names:
        if name not in known:
            raise UnknownNameError("artifact", name, known)
    return tuple(known[name] for name in dict.fromkeys(names or known))


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


def _row(  # noqa: PLR0913  # what a row is made of
    artifact: Artifact,
    deployment: Deployment,
    how: Settings,
    timed: Timed,
    scores: Scores,
    *,
    tried: tuple[ThreadsTried, ...],
    profiled: Profiled,
    session: str,
    states: tuple[DeviceState, DeviceState],
) -> Measurement:
    before, after = states
    told = [state.throttled for state in states if state.throttled is not None]
    return Measurement(
        id=secrets.token_hex(8),
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        device=deployment.device,
        device_facts=deployment.device_facts,
        timing=how.timing,
        threads=timed.threads,
        warmup=how.warmup,
        latencies_ns=timed.latencies_ns,
        rounds=timed.rounds,
        load_ns=statistics.median_low(timed.load_ns),
        first_ns=statistics.median_low(timed.first_ns),
        instructions=statistics.median_low(timed.instructions) if timed.instructions else None,
        peak_rss_bytes=max(timed.peak_rss_bytes, default=None),
        planned_bytes=timed.planned_bytes,
        correct=scores.correct,
        agree_fp32=scores.agree_fp32,
        agreement_with_host=scores.agreement_with_host,
        labelled=scores.labelled,
        total=scores.total,
        predictions=scores.predictions,
        tried=tried,
        ops=profiled.ops,
        profiled_ns=profiled.latencies_ns,
        celsius=(before.celsius, after.celsius),
        throttled=any(told) if told else None,
        states=states,
        started_at=timed.started_at.astimezone(dt.UTC).isoformat(timespec="seconds"),
        runner_sha256=deployment.runners[artifact.requires.runtime],
        session=session,
    )
