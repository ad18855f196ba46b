"""Calibration: one float pass over the samples that serves every rule for ranges and every correction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgeq.errors import NonFiniteActivationError
from edgeq.quantize.source import source_of
from edgeq.quantize.statistics import Statistics, TensorStatistics
from edgeq.records import CalibrationData

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch.fx import GraphModule, Node

    from edgeq.model import Dataset
    from edgeq.progress import Progress


def calibrate(
    graph: GraphModule,
    calibration: Dataset,
    *,
    tensors: Collection[Node],
    layer_inputs: Collection[Node],
    progress: Progress,
) -> Statistics:
    """Run the float ``graph`` sample by sample and keep the statistics of ``tensors`` and of ``layer_inputs``.

    The mean is kept of ``layer_inputs`` alone. EmptyDatasetError if there is
    no sample, NonFiniteActivationError if one of them is NaN or infinite
    for one.
    """
    watch = _Watch(graph, tensors, layer_inputs)
    progress.step("calibrating")
    with torch.no_grad():
        for count, sample in enumerate(calibration, 1):
            watch.run(*sample.inputs)
            progress.advance(count, calibration.samples)
    return Statistics(
        tensors=watch.by_name(),
        data=CalibrationData(sha256=calibration.sha256, samples=calibration.samples or 0),
    )


class _Watch(torch.fx.Interpreter):
    """Runs a graph and adds what the watched nodes give to their statistics."""

    def __init__(self, graph: GraphModule, tensors: Collection[Node], layer_inputs: Collection[Node]) -> None:
        super().__init__(graph)
        wanted = {*tensors, *layer_inputs}
        self._statistics = {
            node: TensorStatistics(channel_axis=_channel_axis(node), keep_mean=node in layer_inputs)
            for node in graph.graph.nodes
            if node in wanted
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


def _channel_axis(node: Node) -> int | None:
    """1 for images and sequences of channels; the last for rows of features, such as a linear layer reads."""
    dimensions: int = node.meta["val"].dim()
    rows = any(user.target == torch.ops.aten.linear.default and user.args[0] is node for user in node.users)
    if dimensions > 2 and not rows:  # noqa: PLR2004  # batch, channels, and a place in the image
        return 1
    return dimensions - 1 if dimensions else None
