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
from edgeq.errors import CorruptArtifactError, DeploymentGoneError, StaleDeploymentError, UnknownNameError
from edgeq.evaluation import EvaluationSet
from edgeq.integrity import check_artifact
from edgeq.records import Measurement
from edgeq.runner import hash_files
from edgeq.stages.bench.accuracy import Answers, Scores, answer, count, host_predictions
from edgeq.stages.bench.op_instructions import middle_of
from edgeq.stages.bench.place import Place
from edgeq.stages.bench.plan import Settings, settings
from edgeq.stages.bench.profile import NOT_PROFILED, Profiled, profile_all
from edgeq.stages.bench.rows import append, measurements_path, read_measurements, read_rows
from edgeq.stages.bench.threads import Choice, choose_threads
from edgeq.stages.bench.timing import Entrant, Timed, time_in_turn
from edgeq.stages.deployed import executable_of

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
    place = Place(deployment=deployment, transport=transport, evaluation=evaluation, how=how)
    _check_belongs_together(build, manifest, place, artifacts, progress=progress)

    before = read_state(transport)
    choices = choose_threads(build, place, artifacts, progress=progress)
    timed = _time(build, place, artifacts, choices, progress=progress)
    profiled = profile_all(build, place, artifacts, timed, progress=progress) if how.profile else {}
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
    build: Path, place: Place, artifacts: Sequence[Artifact], choices: Mapping[str, Choice], *, progress: Progress
) -> dict[str, Timed]:
    """Time every artifact with the threads chosen for it; by its name."""
    timed = time_in_turn(
        build,
        place,
        [Entrant(artifact=artifact, threads=choices[artifact.name].threads) for artifact in artifacts],
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


def _check_belongs_together(
    build: Path, manifest: Manifest, place: Place, artifacts: Sequence[Artifact], *, progress: Progress
) -> None:
    """The files here are those of the manifest, were deployed, and lie on the device as they are here."""
    progress.step("checking build and deployment")
    deployment, transport = place.deployment, place.transport
    if (deployment.model, deployment.target) != (manifest.model, manifest.target):
        what = f"it is {deployment.model} for {deployment.target}"
        raise StaleDeploymentError(build, deployment.device, what)
    for artifact in artifacts:
        check_artifact(build, artifact)
        if artifact.name not in manifest.evaluation.host_outputs:
            raise CorruptArtifactError(build / "manifest.json", f"names no host outputs of {artifact.name}")
        place.evaluation.host_outputs(artifact.name)  # a damaged file is told before anything is measured
        if deployment.artifacts.get(artifact.name) != artifact.sha256:
            raise StaleDeploymentError(build, deployment.device, f"{artifact.name} differs or is not among it")
    for engine in sorted({artifact.requires.runtime for artifact in artifacts}):
        executable = executable_of(deployment, engine)
        mine = [artifact.name for artifact in artifacts if artifact.requires.runtime == engine]
        if transport.run(["test", "-x", f"{deployment.root}/{executable}"]).status:
            raise DeploymentGoneError(transport.name, f"{deployment.root}/{executable} is not there")
        names = [executable, *mine]
        seen = hash_files(transport, folder=deployment.root, executable=executable, names=names, timeout_s=300.0)
        for name in names:
            if seen.get(name) != deployment.files.get(name):
                raise DeploymentGoneError(transport.name, f"{deployment.root}/{name} has changed or is gone")


def _pushed_bytes(artifact: Artifact, deployment: Deployment) -> int | None:
    """What a device needs to run this artifact alone; None if the deployment does not say how large its runner is."""
    runtime = deployment.runtime_bytes.get(artifact.requires.runtime)
    return None if runtime is None else runtime + artifact.size_bytes


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
        instructions=middle_of(timed.instructions),
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
        unprofiled_ns=profiled.unprofiled_ns,
        profiled_rounds=profiled.rounds,
        profiled_instructions=profiled.instructions,
        pushed_bytes=_pushed_bytes(artifact, deployment),
        celsius=(before.celsius, after.celsius),
        throttled=any(told) if told else None,
        states=states,
        started_at=timed.started_at.astimezone(dt.UTC).isoformat(timespec="seconds"),
        runner_sha256=deployment.runners[artifact.requires.runtime],
        session=session,
    )
