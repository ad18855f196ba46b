"""A deployed build on an open device: the one way to run an artifact there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq.device.cores import Core, Pinning, pinning, read_cores
from edgeq.device.transport import Transport
from edgeq.errors import CorruptArtifactError, DeploymentGoneError, NotPinnedError, StaleDeploymentError
from edgeq.evaluation import EvaluationSet
from edgeq.integrity import check_artifact
from edgeq.records import Deployment
from edgeq.runner import BACK_TO_BACK, Pace, execute, hash_files
from edgeq.stages.bench.plan import Settings
from edgeq.stages.deployed import bytes_of, executable_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edgeq.records import Artifact, Manifest
    from edgeq.runner import Execution


@dataclass(frozen=True, kw_only=True)
class Place:
    """The build's folder, where to measure it, what with, and how."""

    build: Path
    deployment: Deployment
    transport: Transport
    evaluation: EvaluationSet
    how: Settings
    cores: tuple[Core, ...] = ()
    """Those of the device, to choose among; () where there is no choice, or it is not to be known."""

    @classmethod
    def of(cls, build: Path, manifest: Manifest, deployment: Deployment, transport: Transport, how: Settings) -> Place:
        """Where a build lies; the device is asked for its cores, if there is a choice."""
        return cls(
            build=build,
            deployment=deployment,
            transport=transport,
            evaluation=EvaluationSet.of(build, manifest),
            how=how,
            cores=read_cores(transport) if how.timing != "emulated" else (),
        )

    def pinning(self, threads: int) -> Pinning:
        """Where so many threads run there."""
        if self.how.timing == "emulated":
            return Pinning()
        return pinning(self.cores, threads, asked=self.how.cpus)

    def check(self, manifest: Manifest, artifacts: Sequence[Artifact]) -> None:
        """See that the files here are those of the manifest, were deployed, and lie on the device as they are here.

        Raises ConfigError if they are not, DeviceError if the device's are not.
        """
        deployment = self.deployment
        if (deployment.model, deployment.target) != (manifest.model, manifest.target):
            what = f"it is {deployment.model} for {deployment.target}"
            raise StaleDeploymentError(self.build, deployment.device, what)
        for artifact in artifacts:
            check_artifact(self.build, artifact)
            if artifact.name not in manifest.evaluation.host_outputs:
                raise CorruptArtifactError(self.build / "manifest.json", f"names no host outputs of {artifact.name}")
            self.evaluation.host_outputs(artifact.name)  # a damaged file is told before anything is measured
            if deployment.artifacts.get(artifact.name) != artifact.sha256:
                what = f"{artifact.name} differs or is not among it"
                raise StaleDeploymentError(self.build, deployment.device, what)
        for engine in sorted({artifact.requires.runtime for artifact in artifacts}):
            self._check_there([artifact.name for artifact in artifacts if artifact.requires.runtime == engine], engine)

    def _check_there(self, artifacts: Sequence[str], engine: str) -> None:
        """The runner of that engine and its artifacts are on the device, byte for byte, as that runner sees it."""
        deployment, transport = self.deployment, self.transport
        executable = executable_of(deployment, engine)
        if transport.run(["test", "-x", f"{deployment.root}/{executable}"]).status:
            raise DeploymentGoneError(transport.name, f"{deployment.root}/{executable} is not there")
        names = [executable, *artifacts]
        seen = hash_files(transport, folder=deployment.root, executable=executable, names=names, timeout_s=300.0)
        for name in names:
            if seen.get(name) != deployment.files.get(name):
                raise DeploymentGoneError(transport.name, f"{deployment.root}/{name} has changed or is gone")

    def run(  # noqa: PLR0913  # a visit has this many sides
        self,
        artifact: Artifact,
        *,
        threads: int,
        warmup: int,
        repeats: int,
        samples: Iterable[bytes],
        on_outputs: Callable[[int, bytes], None],
        profile: bool = False,
        pace: Pace = BACK_TO_BACK,
        most_ms: int | None = None,
        memory_every: int | None = None,
    ) -> Execution:
        """One process of the runner there; what :func:`edgeq.runner.execute` says.

        Raises NotPinnedError if it cannot run where the user wants it to.
        """
        done = execute(
            self.transport,
            folder=self.deployment.root,
            executable=executable_of(self.deployment, artifact.requires.runtime),
            model=artifact.name,
            threads=threads,
            warmup=warmup,
            repeats=repeats,
            count_instructions=self.how.timing == "emulated",
            samples=samples,
            on_outputs=on_outputs,
            profile=profile,
            pace=pace,
            most_ms=most_ms,
            cpus=self.pinning(threads).cpus,
            memory_every=memory_every,
            timeout_s=self.how.silence_s,
        )
        if self.how.cpus and done.not_pinned:
            raise NotPinnedError(self.transport.name, self.how.cpus, done.not_pinned)
        return done

    def samples(self, artifact: Artifact, indices: Iterable[int]) -> Iterator[bytes]:
        """Those evaluation samples as a runner takes them, read one by one."""
        expected = sum(bytes_of(spec) for spec in artifact.inputs)
        for index in indices:
            data = b"".join(np.ascontiguousarray(array).tobytes() for array in self.evaluation.sample(index))
            if len(data) != expected:
                raise CorruptArtifactError(
                    f"evaluation sample {index}", f"has {len(data)} bytes, and {artifact.name} takes {expected}"
                )
            yield data
