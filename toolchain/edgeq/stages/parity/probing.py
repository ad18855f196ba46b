"""Probes of a build's artifacts: made on this machine, each once, run here and wherever something diverges."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq.errors import ArtifactError, MissingProgramError
from edgeq.evaluation import EvaluationSet
from edgeq.host import HostRuntime
from edgeq.installed import EXTRA_OF, require
from edgeq.integrity import read_golden
from edgeq.records import Artifact
from edgeq.stages.bench.profile import read_operators
from edgeq.stages.parity.comparing import GOLDEN, nearest_db
from edgeq.stages.parity.layers import UnfaithfulError
from edgeq.stages.reuse import program_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from edgeq.lower.probes import Points
    from edgeq.progress import Progress
    from edgeq.records import Manifest
    from edgeq.target import Target

_SAME_DB = 60.0
"""A float kernel may round otherwise where its result is looked at; what is less near is another computation."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A file with further outputs in a folder of its own, as an artifact, and all that it gives on this machine."""

    folder: Path
    artifact: Artifact
    names: tuple[str, ...]
    given: tuple[np.ndarray, ...]


class Probes:
    """Makes probes of one build's artifacts, whatever number of devices asks for them, while the block runs.

    ``target`` is the one the build was made for.
    """

    def __init__(self, build: Path, manifest: Manifest, target: Target) -> None:
        self._build = build
        self._manifest = manifest
        self._on_x86 = target.triple.startswith("x86_64")
        self._one_at_a_time = threading.Lock()  # a lowering replaces functions of ExecuTorch
        self._stack = ExitStack()
        self._points: dict[str, tuple[Points, tuple[str, ...]]] = {}
        self._made: dict[tuple[str, tuple[str, ...], int | None], Probe] = {}

    def __enter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeq-probes-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def points(self, artifact: Artifact, progress: Progress) -> tuple[Points, tuple[str, ...]]:
        """What can be looked at in an artifact, and notes on it.

        MissingProgramError if the build does not hold what that takes.
        """
        with self._one_at_a_time:
            if artifact.name not in self._points:
                progress.step(f"looking for the layers of {artifact.name}")
                require(EXTRA_OF[artifact.format], needed_for=f"looking into {artifact.name}")
                find = self._points_of_onnx if artifact.format == "onnx" else self._points_of_pte
                self._points[artifact.name] = find(artifact)
            return self._points[artifact.name]

    def probe(self, artifact: Artifact, values: Sequence[str], sample: int | None, progress: Progress) -> Probe:
        """The probe of these values of :meth:`points`, run on that sample; UnfaithfulError if there is none."""
        points, _ = self.points(artifact, progress)
        with self._one_at_a_time:
            key = (artifact.name, tuple(values), sample)
            if key not in self._made:
                progress.step(f"making a probe of {artifact.name} with the results of {len(values)} of its layers")
                self._made[key] = self._make(artifact, points, values, sample)
            return self._made[key]

    def inputs(self, artifact: Artifact, sample: int | None) -> tuple[np.ndarray, ...]:
        """The inputs of one sample of the evaluation set, or of the golden input."""
        if sample is not GOLDEN:
            return EvaluationSet.of(self._build, self._manifest).sample(sample)
        data, _ = read_golden(self._build, artifact)
        found, start = [], 0
        for spec in artifact.inputs:
            array = np.frombuffer(data, dtype=spec.dtype, count=int(np.prod(spec.shape, dtype=np.int64)), offset=start)
            found.append(array.reshape(spec.shape))
            start += array.nbytes
        return tuple(found)

    def _points_of_onnx(self, artifact: Artifact) -> tuple[Points, tuple[str, ...]]:
        operators = read_operators(self._build, artifact.name)
        if not operators:
            raise MissingProgramError(self._build, artifact.name)
        from edgeq.lower import onnx_probe  # noqa: PLC0415  # brings torch, which nothing else here needs

        return onnx_probe.points_of(self._build / artifact.name, operators), ()

    def _points_of_pte(self, artifact: Artifact) -> tuple[Points, tuple[str, ...]]:
        program = self._program(artifact)
        from edgeq.lower import executorch_probe  # noqa: PLC0415  # as above

        points = executorch_probe.points_of(executorch_probe.kept_program(program))
        plain = self._folder / f"{artifact.name}.plain"
        self._write(artifact, (), plain)
        if hashlib.sha256(plain.read_bytes()).hexdigest() == artifact.sha256:
            return points, ()
        return points, (
            "the program that the build kept, lowered again, has other bytes than the artifact, and the same outputs",
        )

    def _program(self, artifact: Artifact) -> Path:
        path = self._build / program_file(artifact.recipe)
        if not path.is_file():
            raise MissingProgramError(self._build, artifact.name)
        return path

    def _write(self, artifact: Artifact, values: Sequence[str], path: Path) -> None:
        if artifact.format == "onnx":
            from edgeq.lower import onnx_probe  # noqa: PLC0415  # as above

            onnx_probe.write_probe(self._build / artifact.name, values, path)
            return
        from edgeq.lower import executorch_probe  # noqa: PLC0415  # as above

        program = executorch_probe.kept_program(self._program(artifact))
        executorch_probe.write_probe(program, values, path, float_filters=self._on_x86)

    def _make(self, artifact: Artifact, points: Points, values: Sequence[str], sample: int | None) -> Probe:
        folder = self._folder / str(len(self._made))
        path = folder / f"{Path(artifact.name).stem}.probe.{artifact.format}"
        inputs = self.inputs(artifact, sample)
        try:
            self._write(artifact, values, path)
            given = HostRuntime(path, artifact.format).run(inputs)
        except ArtifactError as error:
            raise UnfaithfulError(error.message.replace(f"{folder}/", "")) from error
        plain = HostRuntime(self._build / artifact.name, artifact.format).run(inputs)
        require_same(plain, given[: len(plain)], where="on this machine")
        added = [point.value for point in points.points if point.value in values and point.value not in points.outputs]
        data = path.read_bytes()
        made = dataclasses.replace(
            artifact, name=path.name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)
        )
        return Probe(folder=folder, artifact=made, names=(*points.outputs, *added), given=given)


def require_same(artifact: Sequence[np.ndarray], probe: Sequence[np.ndarray], *, where: str) -> None:
    """UnfaithfulError if a probe gives something else for the outputs that its artifact has as well."""
    apart = nearest_db(artifact, probe)
    if apart < _SAME_DB:
        raise UnfaithfulError(f"with its result as a further output the file computes something else {where}")
