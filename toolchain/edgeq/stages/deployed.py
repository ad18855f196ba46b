"""Artifacts that lie on a device: what runs them, and whether they compute there what they did on the build machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgeq import runner, stats
from edgeq.errors import ConfigError, StaleDeploymentError, WrongOutputError
from edgeq.integrity import read_golden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from edgeq.device.transport import Transport
    from edgeq.progress import Progress
    from edgeq.records import Artifact, Deployment, TensorSpec

_SMOKE_TIMEOUT_S = 300.0


def smoke_test(
    build: Path, artifacts: Iterable[Artifact], deployment: Deployment, transport: Transport, *, progress: Progress
) -> None:
    """Run every artifact once on its golden input, as it lies there.

    Raises WrongOutputError if one computes something else than on the build
    machine, RunnerFailedError if one cannot be loaded or run, and what the
    transport raises.
    """
    for artifact in artifacts:
        progress.step(f"trying {artifact.name} on {transport.name}")
        given, expected = read_golden(build, artifact)
        run_untimed(
            transport,
            deployment,
            artifact,
            (given,),
            _check(transport.name, artifact, expected),
            timeout_s=_SMOKE_TIMEOUT_S,
        )


def run_untimed(  # noqa: PLR0913  # an artifact, where it lies, and what goes in and out
    transport: Transport,
    deployment: Deployment,
    artifact: Artifact,
    samples: Iterable[bytes],
    on_outputs: Callable[[int, bytes], None],
    *,
    timeout_s: float,
) -> None:
    """Run an artifact once on each of the samples, one thread, for what it gives; ``on_outputs(index, bytes)`` gets it.

    No inference may take longer than ``timeout_s``. Raises RunnerFailedError
    if it cannot be loaded or run, and what the transport raises.
    """
    runner.execute(
        transport,
        folder=deployment.root,
        executable=executable_of(deployment, artifact.requires.runtime),
        model=artifact.name,
        threads=1,
        warmup=0,
        repeats=0,
        count_instructions=False,
        samples=samples,
        on_outputs=on_outputs,
        timeout_s=timeout_s,
    )


def _check(device: str, artifact: Artifact, reference: bytes) -> Callable[[int, bytes], None]:
    return lambda _index, data: check_output(device, artifact, reference, data)


def executable_of(deployment: Deployment, engine: str) -> str:
    """The name of a runtime's runner inside the deployment; ConfigError if none was deployed."""
    wanted = deployment.runners.get(engine)
    for name, sha256 in deployment.files.items():
        if sha256 == wanted:
            return name
    raise StaleDeploymentError(f"{deployment.model} for {deployment.target}", deployment.device, f"no {engine} runner")


def check_output(device: str, artifact: Artifact, reference: bytes, data: bytes) -> None:
    """Raise WrongOutputError unless ``data``, what the artifact gave for its golden input, is near to ``reference``.

    How near is the manifest's to say: ``least_sqnr_db`` of the artifact.
    """
    if data == reference:
        return
    sqnr_db = _distance_db(artifact, reference, data)
    if sqnr_db < artifact.least_sqnr_db:
        raise WrongOutputError(device, artifact.name, sqnr_db)


def bytes_of(spec: TensorSpec) -> int:
    """The size of one tensor; ConfigError if its numbers are of a kind that there is not."""
    try:
        item = np.dtype(spec.dtype).itemsize
    except TypeError as error:
        raise ConfigError(
            f"the manifest says that {spec.name!r} is of {spec.dtype!r}, which is no dtype",
            hint="the build is damaged; run edgeq build again",
        ) from error
    return int(np.prod(spec.shape, dtype=np.int64)) * item


def _distance_db(artifact: Artifact, reference: bytes, other: bytes) -> float:
    """How far the worst output is from its reference; minus infinity where they have different sizes."""
    if len(reference) != len(other):
        return -math.inf
    worst, start = math.inf, 0
    for spec in artifact.outputs:
        end = start + bytes_of(spec)
        first, second = (np.frombuffer(data[start:end], dtype=spec.dtype) for data in (reference, other))
        worst = min(worst, stats.sqnr_db(first, second)) if first.size else worst
        start = end
    return worst
