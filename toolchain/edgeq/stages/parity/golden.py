"""The golden set: an artifact's golden input and samples of the evaluation set, with the build machine's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeq.evaluation import EvaluationSet, subset
from edgeq.integrity import read_golden
from edgeq.stages.parity.comparing import GOLDEN, Answer
from edgeq.stages.parity.running import arrays_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeq.records import Artifact, Manifest


class GoldenSet:
    """``count`` samples of a build's evaluation set, or all if there are fewer, behind the golden input."""

    def __init__(self, build: Path, manifest: Manifest, count: int) -> None:
        self._build = build
        self._set = EvaluationSet.of(build, manifest)
        chosen = subset(self._set.labels, self._set.samples, count)
        self.samples: tuple[int | None, ...] = (GOLDEN, *(int(index) for index in chosen))

    def __len__(self) -> int:
        """How many inputs an artifact runs."""
        return len(self.samples)

    def inputs(self, artifact: Artifact) -> Iterator[bytes]:
        """The inputs as a runner takes them."""
        for sample in self.samples:
            if sample is GOLDEN:
                yield read_golden(self._build, artifact)[0]
            else:
                yield b"".join(np.ascontiguousarray(one).tobytes() for one in self._set.sample(sample))

    def expected(self, artifact: Artifact) -> tuple[Answer, ...]:
        """What the build machine gave: all outputs for the golden input, the first one for any other."""
        outputs = self._set.host_outputs(artifact.name)
        (shape, *_) = [spec.shape for spec in artifact.outputs]
        return tuple(
            Answer(
                sample=sample,
                outputs=arrays_of(read_golden(self._build, artifact)[1], artifact)
                if sample is GOLDEN
                else (outputs[sample].reshape(shape),),
            )
            for sample in self.samples
        )
