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
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeq.device.cores import read_cores
from edgeq.device.health import read_state
from edgeq.errors import CorruptArtifactError, DeploymentGoneError, StaleDeploymentError, UnknownNameError
from edgeq.evaluation import EvaluationSet
from edgeq.integrity import check_artifact
from edgeq.runner import BACK_TO_BACK, hash_files
from edgeq.stages.bench.accuracy import Answers, Scores, answer, count, host_predictions
from edgeq.stages.bench.fitness import Unfit, clock_moved, fit_state, refuse, unfit
from edgeq.stages.bench.leak import check_leak
from edgeq.stages.bench.place import Place
from edgeq.stages.bench.plan import Settings, settings
from edgeq.stages.bench.profile import NOT_PROFILED, profile_all
from edgeq.stages.bench.row import Session, row_of
from edgeq.stages.bench.rows import append, measurements_path, read_measurements, read_rows
from edgeq.stages.bench.threads import Choice, choose_threads
from edgeq.stages.bench.timing import Entrant, Timed, time_in_turn
from edgeq.stages.bench.warmup import WarmUp, find_warm_ups
from edgeq.stages.deployed import executable_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgeq.device.transport import Transport
    from edgeq.progress import Progress
    from edgeq.records import Artifact, Deployment, DeviceState, LeakCheck, Manifest, Measurement

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
    artifacts = _chosen(manifest, how.artifacts)
    evaluation = EvaluationSet.of(build, manifest)
    cores = read_cores(transport) if how.timing != "emulated" else ()
    place = Place(deployment=deployment, transport=transport, evaluation=evaluation, how=how, cores=cores)
    _check_belongs_together(build, manifest, place, artifacts, progress=progress)

    before, not_fit = fit_state(transport, deployment.device_facts, how, progress=progress)
    choices = choose_threads(build, place, artifacts, progress=progress)
    entrants = [Entrant(artifact=artifact, threads=choices[artifact.name].threads) for artifact in artifacts]
    warm_ups = find_warm_ups(build, place, entrants, how.pace, progress=progress)
    if how.timing == "hardware":  # a machine that people work at changes its clock all the time: its rows say so
        refuse(transport.name, tuple(clock_moved([khz for one in warm_ups for khz in one.khz], before, how)), how)
    timed, between = _time(build, place, entrants, warm_ups, progress=progress)
    threads = {name: choice.threads for name, choice in choices.items()}
    profiled = profile_all(build, place, artifacts, threads, progress=progress) if how.profile else {}
    leaks = _leaks(build, place, entrants, progress=progress) if how.leak_check else {}
    states = (before, *between, read_state(transport))
    session = Session(
        id=secrets.token_hex(8),
        deployment=deployment,
        how=how,
        states=states,
        unfit=_not_fit(not_fit, states, timed.values(), place),
    )
    rows: list[Measurement] = []
    for artifact, scores in _score_all(place, manifest, artifacts, choices, progress=progress):
        row = row_of(
            session,
            artifact,
            timed[artifact.name],
            scores,
            tried=choices[artifact.name].tried,
            warm_up=warm_ups[artifacts.index(artifact)],
            pinned=place.pinning(choices[artifact.name].threads),
            profiled=profiled.get(artifact.name, NOT_PROFILED),
            leak=leaks.get(artifact.name),
        )
        append(build, row)
        rows.append(row)
    return tuple(rows)


def _time(
    build: Path, place: Place, entrants: Sequence[Entrant], warm_ups: Sequence[WarmUp], *, progress: Progress
) -> tuple[dict[str, Timed], list[DeviceState]]:
    """Time every artifact, by its name, and the device's state at the start of each round."""
    states: list[DeviceState] = []

    def look() -> None:
        if place.how.timing != "emulated":
            states.append(read_state(place.transport, watch_s=0))

    timed = time_in_turn(
        build,
        place,
        [replace(one, warmup=warm_up.steady_after or 0) for one, warm_up in zip(entrants, warm_ups, strict=True)],
        place.how.rounds,
        warmup=place.how.warmup,
        doing=f"timing {len(entrants)} artifacts",
        pace=place.how.pace,
        before_each=look,
        progress=progress,
    )
    return {one.artifact.name: seen for one, seen in zip(entrants, timed, strict=True)}, states


def _not_fit(
    before: Sequence[Unfit], states: Sequence[DeviceState], timed: Iterable[Timed], place: Place
) -> tuple[str, ...]:
    """Why the device was not fit, before (where that was forced), meanwhile and after; one reason of each kind."""
    found = [*before, *(one for state in states[1:] for one in unfit(state, place.deployment.device_facts, place.how))]
    found += [one for seen in timed for one in clock_moved(seen.khz, states[0], place.how)]
    return tuple({one.kind: one.reason for one in reversed(found)}.values())


def _leaks(build: Path, place: Place, entrants: Sequence[Entrant], *, progress: Progress) -> dict[str, LeakCheck]:
    progress.step("looking for leaks")
    found = {}
    for done, entrant in enumerate(entrants):
        progress.advance(done, len(entrants))
        found[entrant.artifact.name] = check_leak(build, place, entrant)
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
