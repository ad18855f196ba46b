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
from edgeq.errors import UnknownNameError
from edgeq.evaluation import EvaluationSet
from edgeq.runner import BACK_TO_BACK
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
    place = Place(build=build, deployment=deployment, transport=transport, evaluation=evaluation, how=how, cores=cores)
    progress.step("checking build and deployment")
    place.check(manifest, artifacts)

    before, not_fit = fit_state(transport, deployment.device_facts, how, progress=progress)
    choices = choose_threads(place, artifacts, progress=progress)
    entrants = [
        Entrant(place=place, artifact=artifact, threads=choices[artifact.name].threads) for artifact in artifacts
    ]
    warm_ups = find_warm_ups(entrants, how.pace, progress=progress)
    if how.timing == "hardware":  # a machine that people work at changes its clock all the time: its rows say so
        refuse(transport.name, tuple(clock_moved([khz for one in warm_ups for khz in one.khz], before, how)), how)
    timed, between = _time(place, entrants, warm_ups, progress=progress)
    threads = {name: choice.threads for name, choice in choices.items()}
    profiled = profile_all(place, artifacts, threads, progress=progress) if how.profile else {}
    leaks = _leaks(entrants, progress=progress) if how.leak_check else {}
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
    place: Place, entrants: Sequence[Entrant], warm_ups: Sequence[WarmUp], *, progress: Progress
) -> tuple[dict[str, Timed], list[DeviceState]]:
    """Time every artifact, by its name, and the device's state at the start of each round."""
    states: list[DeviceState] = []

    def look() -> None:
        if place.how.timing != "emulated":
            states.append(read_state(place.transport, watch_s=0))

    timed = time_in_turn(
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
