"""A deployed build on an open device: the one way to run an artifact there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeq.device.cores import Core, Pinning, pinning
from edgeq.device.transport import Transport
from edgeq.errors import CorruptArtifactError, NotPinnedError
from edgeq.evaluation import EvaluationSet
from edgeq.records import Deployment
from edgeq.runner import BACK_TO_BACK, Pace, execute
from edgeq.stages.bench.plan import Settings
from edgeq.stages.deployed import bytes_of, executable_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from edgeq.records import Artifact
    from edgeq.runner import Execution


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where to measure, what with, and how."""

    deployment: Deployment
    transport: Transport
    evaluation: EvaluationSet
    how: Settings
    cores: tuple[Core, ...] = ()
    """Those of the device, to choose among; () where there is no choice, or it is not to be known."""

    def pinning(self, threads: int) -> Pinning:
        """Where so many threads run there."""
        if self.how.timing == "emulated":
            return Pinning()
        return pinning(self.cores, threads, asked=self.how.cpus)

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
