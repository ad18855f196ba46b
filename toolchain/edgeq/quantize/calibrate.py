"""Calibration: one float pass over the samples that serves every rule for ranges.

The pass goes sample by sample and keeps nothing of a sample. It stops when
the ranges stand, and goes on after a crash where it was (see
docs/decisions/calibrate-once.md).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from typing import TYPE_CHECKING, Any

import torch

from edgeq.errors import NonFiniteActivationError
from edgeq.quantize.checkpoint import Checkpoint, Progressed
from edgeq.quantize.convergence import Convergence
from edgeq.quantize.fingerprint import graph_sha256
from edgeq.quantize.source import source_of
from edgeq.quantize.statistics import Statistics, TensorStatistics
from edgeq.records import CalibrationData

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    from torch.fx import GraphModule, Node

    from edgeq.model import Dataset, Reading, Sample
    from edgeq.progress import Progress

_BATCH_SAMPLES = 16
_BATCH_SECONDS = 5.0
"""A crash costs what was run since the last checkpoint: so many samples, or those of this time if they are fewer."""

_LAYOUT = 4
"""Counted up whenever the same samples would be gathered differently: checkpoints of before are then not used."""


def calibrate(
    graph: GraphModule,
    calibration: Dataset,
    *,
    tensors: Collection[Node],
    converge: bool = True,
    progress: Progress,
) -> Statistics:
    """Run the float ``graph`` sample by sample and keep the statistics of ``tensors``.

    Without ``converge`` every
    sample is read, however little the ranges move. The result depends on the
    graph and the samples only, not on whether an earlier run was killed.
    EmptyDatasetError if there is no sample, SamplesAlikeError if they do not
    differ, NonFiniteActivationError if a watched tensor is NaN or infinite
    for one.
    """
    watch = _Watch(graph, tensors)
    checkpoint = Checkpoint(_key(graph, watch, calibration, converge=converge))
    with torch.no_grad():
        data = _Pass(watch, calibration, checkpoint, Convergence() if converge else None, progress).run()
    return Statistics(tensors=watch.by_name(), data=data)


class _Pass:
    """One pass over the samples, or what is left of it."""

    def __init__(
        self,
        watch: _Watch,
        calibration: Dataset,
        checkpoint: Checkpoint,
        convergence: Convergence | None,
        progress: Progress,
    ) -> None:
        self._watch = watch
        self._calibration = calibration
        self._checkpoint = checkpoint
        self._convergence = convergence
        self._progress = progress
        self._unsaved = 0
        self._saved_at = time.monotonic()

    def run(self) -> CalibrationData:
        """Read until the end, or until enough was seen."""
        reading = self._begun()
        self._progress.step("calibrating")
        ended = False
        while not self._enough(reading) and not (ended := (sample := next(reading, None)) is None):
            self._take(sample, reading.samples)
            self._progress.advance(reading.samples, reading.total)
            if self._unsaved >= _BATCH_SAMPLES or time.monotonic() - self._saved_at >= _BATCH_SECONDS:
                self._save(reading)
        reading.stop()
        if self._unsaved:
            self._save(reading)
        return CalibrationData(
            sha256=reading.sha256,
            samples=self._convergence.ran if self._convergence else reading.samples,
            offered=reading.samples if ended else reading.total,
            converged_after=(self._convergence.stood_after or None) if self._convergence else None,
        )

    def _enough(self, reading: Reading) -> bool:
        return self._convergence is not None and self._convergence.ended(reading.samples)

    def _take(self, sample: Sample, number: int) -> None:
        if self._convergence is None or self._convergence.wants(number):
            self._watch.run(*sample.inputs)
            self._unsaved += 1
            if self._convergence:
                self._convergence.look(number, self._watch.by_name().values())

    def _begun(self) -> Reading:
        """The samples after those that an earlier run has taken into account already."""
        saved = self._checkpoint.load()
        if saved is None or self._calibration.read_once:  # what is compared could not be run afterwards
            return self._calibration.read()
        reading = self._calibration.read()
        self._progress.step(f"comparing {saved.samples} samples with those of an earlier calibration")
        while reading.samples < saved.samples and next(reading, None) is not None:
            self._progress.advance(reading.samples, saved.samples)
        if (reading.samples, reading.sha256) != (saved.samples, saved.sha256):
            self._progress.step("the samples are not those of the earlier calibration; calibrating anew")
            return self._calibration.read()
        self._watch.restore(saved.arrays)
        if self._convergence:
            self._convergence.restore(saved.arrays)
        self._saved_at = time.monotonic()
        return reading

    def _save(self, reading: Reading) -> None:
        arrays = self._watch.state() | (self._convergence.state() if self._convergence else {})
        self._checkpoint.save(Progressed(samples=reading.samples, sha256=reading.sha256, arrays=arrays))
        self._unsaved, self._saved_at = 0, time.monotonic()


class _Watch(torch.fx.Interpreter):
    """Runs a graph and adds what the watched nodes give to their statistics."""

    def __init__(self, graph: GraphModule, tensors: Collection[Node]) -> None:
        super().__init__(graph)
        self._statistics = {
            node: TensorStatistics(channel_axis=_channel_axis(node)) for node in graph.graph.nodes if node in tensors
        }

    def run_node(self, n: Node) -> Any:  # noqa: ANN401  # a node gives whatever its operator gives
        """Run one node and take its result into account if it is watched."""
        result = super().run_node(n)
        if n in self._statistics and not self._statistics[n].add(result):
            raise NonFiniteActivationError(source_of(n) or n.name)
        return result

    def by_name(self) -> Mapping[str, TensorStatistics]:
        """The statistics by the names of their nodes, in the order of the graph."""
        return {node.name: statistics for node, statistics in self._statistics.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Everything there is to keep, as plain arrays."""
        return {
            f"{name}/{part}": array
            for name, statistics in self.by_name().items()
            for part, array in statistics.state().items()
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`state` of a watch over the same nodes gave."""
        for name, statistics in self.by_name().items():
            own = f"{name}/"
            statistics.restore({key.removeprefix(own): state[key] for key in state if key.startswith(own)})


def _channel_axis(node: Node) -> int | None:
    """1 for images and sequences of channels; the last for rows of features, such as a linear layer reads or makes."""
    dimensions: int = node.meta["val"].dim()
    linear = torch.ops.aten.linear.default
    rows = node.target == linear or any(user.target == linear and user.args[0] is node for user in node.users)
    if dimensions > 2 and not rows:  # noqa: PLR2004  # batch, channels, and a place in the image
        return 1
    return dimensions - 1 if dimensions else None


def _key(graph: GraphModule, watch: _Watch, calibration: Dataset, *, converge: bool) -> str:
    """A name for everything that the statistics depend on, and for the samples, which may have changed."""
    facts = (
        _LAYOUT,
        importlib.metadata.version("edgeq"),
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        calibration.place,
        converge,
        [(name, statistics.channel_axis) for name, statistics in watch.by_name().items()],
        graph_sha256(graph),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()
