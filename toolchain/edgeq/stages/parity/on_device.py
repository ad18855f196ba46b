"""One device's part: every artifact on the golden set, and the layers of those that diverge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq.device.inventory import store_root
from edgeq.device.keyring import SigningKey
from edgeq.device.store import Store
from edgeq.device.transport import Transport
from edgeq.errors import (
    EdgeqError,
    RunnerCrashedError,
    RunnerFailedError,
    RunnerProtocolError,
)
from edgeq.records import DeviceFacts, LayerSearch, Manifest, ParityRow, Timing
from edgeq.runner import RunnerBundle
from edgeq.stages.bench.plan import clock_of
from edgeq.stages.deploy import deploy
from edgeq.stages.parity.comparing import Answer, compare, compare_layer
from edgeq.stages.parity.layers import UnfaithfulError, search
from edgeq.stages.parity.probing import require_same
from edgeq.stages.parity.running import kinds_of, run
from edgeq.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.lower.probes import Point
    from edgeq.progress import Progress
    from edgeq.records import Artifact, Deployment, LayerParity
    from edgeq.stages.parity.golden import GoldenSet
    from edgeq.stages.parity.probing import Probe, Probes

BUILD_MACHINE = "build machine"
_REMOVING_PATIENCE_S = 5
_OF_ONE_ARTIFACT = (RunnerCrashedError, RunnerFailedError, RunnerProtocolError)
"""What says nothing of the other artifacts on the device."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A build, a device, and what connects the two."""

    build: Path
    manifest: Manifest
    target: Target
    transport: Transport
    bundles: Mapping[str, RunnerBundle]
    device: str
    sign: SigningKey | None = None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one device gave: its facts, a row for each artifact against the build machine, and the outputs by name."""

    device: str
    facts: DeviceFacts
    timing: Timing
    rows: tuple[ParityRow, ...]
    answers: dict[str, tuple[Answer, ...]]


def see(place: Place, artifacts: Sequence[Artifact], golden: GoldenSet, probes: Probes, *, progress: Progress) -> Seen:
    """Run the artifacts on the golden set where ``place`` says, and look into those that diverge.

    What is not there yet is brought; what is active there stays active.
    Raises what a deployment does; an artifact that does not run is a row.
    """
    deployment = _brought(place, place.build, place.manifest, progress=progress)
    looked = _Looking(place, probes, progress)
    rows, answers = [], {}
    try:
        for artifact in artifacts:
            progress.step(f"running {artifact.name} on {len(golden)} inputs")
            try:
                given = _answers(place, deployment, artifact, golden, progress)
            except _OF_ONE_ARTIFACT as error:
                rows.append(failed_row(artifact, place.device, f"{error.message} {error.detail}".strip()))
                continue
            answers[artifact.name] = given
            row = row_of(artifact, place.device, BUILD_MACHINE, golden.expected(artifact), given)
            if row.verdict == "diverges":
                row = dataclasses.replace(row, search=looked.into(artifact, row.worst_sample, given))
            rows.append(row)
    finally:
        looked.clean_up()
    facts = deployment.device_facts
    return Seen(
        device=place.device,
        facts=facts,
        timing=clock_of(place.device, facts),
        rows=tuple(rows),
        answers=answers,
    )


def row_of(
    artifact: Artifact, device: str, against: str, reference: Sequence[Answer], given: Sequence[Answer]
) -> ParityRow:
    """The comparison of one artifact's outputs."""
    figures = compare(reference, given, least_sqnr_db=artifact.least_sqnr_db, scales=artifact.output_scales)
    return ParityRow(
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        device=device,
        against=against,
        least_sqnr_db=artifact.least_sqnr_db,
        **vars(figures),
    )


def failed_row(artifact: Artifact, device: str, reason: str) -> ParityRow:
    """That of one that did not run."""
    return ParityRow(
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        device=device,
        against=BUILD_MACHINE,
        verdict="failed",
        reason=reason,
        least_sqnr_db=artifact.least_sqnr_db,
    )


def _brought(place: Place, build: Path, manifest: Manifest, *, progress: Progress) -> Deployment:
    done = deploy(
        build,
        manifest,
        place.target,
        place.transport,
        place.bundles,
        device=place.device,
        sign=place.sign,
        allow_older=True,  # nothing becomes active
        activate=False,
        smoke=False,
        progress=progress,
    )
    return done.deployment


def _answers(
    place: Place, deployment: Deployment, artifact: Artifact, golden: GoldenSet, progress: Progress
) -> tuple[Answer, ...]:
    outputs = run(place.transport, deployment, artifact, golden.inputs(artifact), kinds_of(artifact), progress=progress)
    return tuple(Answer(sample=sample, outputs=arrays) for sample, arrays in zip(golden.samples, outputs, strict=True))


class _Looking:
    """Probes on one device; what was brought for them is removed in the end."""

    def __init__(self, place: Place, probes: Probes, progress: Progress) -> None:
        self._place = place
        self._probes = probes
        self._progress = progress
        self._brought: dict[str, None] = {}
        self._store = Store(place.transport, store_root(place.device))

    def into(self, artifact: Artifact, sample: int | None, given: Sequence[Answer]) -> LayerSearch:
        """The first layer of a diverging artifact that diverges on ``sample``; ``given`` are its outputs there."""
        try:
            return self._searched(artifact, sample, given)
        except EdgeqError as error:
            return LayerSearch(sample=sample, layers=(), notes=(f"no layer was looked at: {error.message}",))

    def _searched(self, artifact: Artifact, sample: int | None, given: Sequence[Answer]) -> LayerSearch:
        points, notes = self._probes.points(artifact, self._progress)
        (outputs,) = (one.outputs for one in given if one.sample == sample)

        def probe(indices: Sequence[int]) -> list[LayerParity]:
            wanted = [points.points[index] for index in indices]
            made = self._probes.probe(artifact, [one.value for one in wanted], sample, self._progress)
            there = self._run(made, sample)
            require_same(outputs, there[: len(outputs)], where=f"on {self._place.device}")
            here, others = (dict(zip(made.names, arrays, strict=True)) for arrays in (made.given, there))
            return [
                compare_layer(
                    one.layer,
                    _real(one, here[one.value]),
                    _real(one, others[one.value]),
                    least_sqnr_db=artifact.least_sqnr_db,
                )
                for one in wanted
            ]

        layers = [point.layer for point in points.points]
        return search(layers, probe, sample=sample, not_probed=points.not_probed, notes=notes)

    def _run(self, made: Probe, sample: int | None) -> tuple[np.ndarray, ...]:
        place = self._place
        manifest = dataclasses.replace(place.manifest, artifacts=(made.artifact,))
        deployment = _brought(place, made.folder, manifest, progress=self._progress)
        self._brought[deployment.id] = None
        kinds = [(array.shape, str(array.dtype)) for array in made.given]
        data = b"".join(np.ascontiguousarray(array).tobytes() for array in self._probes.inputs(made.artifact, sample))
        self._progress.step(f"running it, which gives {len(made.names)} results")
        try:
            (there,) = run(place.transport, deployment, made.artifact, [data], kinds, progress=self._progress)
        except _OF_ONE_ARTIFACT as error:
            raise UnfaithfulError(f"{error.message} on {place.device}") from error
        return there

    def clean_up(self) -> None:
        """Remove the probes from the device, unless somebody else is at work there: then `edgeq gc` will."""
        if not self._brought:
            return
        self._progress.step("removing the probes")
        try:
            with self._store.opened(self._progress, alone=True, patience_s=_REMOVING_PATIENCE_S) as contents:
                self._store.remove(tuple(self._brought), links=contents.links)
        except EdgeqError as error:  # what was found is worth more
            self._progress.step(f"the probes stay there until the next edgeq gc: {error.message}")


def _real(point: Point, values: np.ndarray) -> np.ndarray:
    """The real values that a probe's results stand for."""
    if point.scale is None or values.dtype.kind == "f":
        return values
    return (values.astype(np.float64) - point.zero_point) * point.scale
