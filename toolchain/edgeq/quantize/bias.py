"""Bias correction: what rounding does to the middle of a layer's output, the bias takes back.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction" (ICCV 2019), appendix D: shifts are measured, here as medians.
Both graphs, in float and in int8, go through the network side by side,
operation by operation. A layer's inputs are the rounded ones then, of layers
that are corrected already, so that what is taken back is all that shifts it:
its own rounded weights, and an input whose rounding leans to one side
because many of its values are equal (a background, a dead channel).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgeq.quantize.attributes import constant, new_constant
from edgeq.quantize.channels import channel_axis
from edgeq.quantize.simulate import SAMPLES, Simulation

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from edgeq.model import Dataset
    from edgeq.progress import Progress
    from edgeq.quantize.scheme import Scheme

_PLACES = 1024
"""Of a larger image so many are looked at."""


def correct_biases(graph: GraphModule, scheme: Scheme, calibration: Dataset, *, progress: Progress) -> None:
    """Change the bias of every layer that is about to be quantized; a layer without one gets one.

    A few samples are in memory at once, with those of their tensors that
    are still to be read.
    """
    progress.step("correcting biases")
    simulation = Simulation(graph, scheme)
    inputs = [sample.inputs for sample in calibration.few(SAMPLES)]
    in_float, in_int8 = (_Rows(graph, simulation, inputs) for _ in range(2))
    nodes = [node for node in graph.graph.nodes if node.op not in ("placeholder", "output")]
    with torch.no_grad():
        for done, node in enumerate(nodes, 1):
            simulation.choose(())
            wanted = in_float.computed(node)
            simulation.choose(scheme.plan.operations)
            got = in_int8.computed(node)
            if node in scheme.weights:
                axis = channel_axis(node)
                shift = _believable(torch.stack([_middles(b - a, axis) for a, b in zip(wanted, got, strict=True)]))
                _subtract(graph, node, shift)
                got = [value - _along(axis, shift, value) for value in got]
            in_float.keep(node, wanted)
            in_int8.keep(node, [simulation.stored(node, value) for value in got])
            progress.advance(done, len(nodes))
    graph.graph.eliminate_dead_code()
    graph.recompile()


def biases_alone(
    graph: GraphModule, scheme: Scheme, samples: list[tuple[torch.Tensor, ...]]
) -> dict[Node, torch.Tensor]:
    """What the corrected bias of each layer would be if it alone were int8; of layers whose bias was corrected.

    A corrected bias also makes up for what the layers before it do.
    """
    originals = {layer: bias for layer, (_, bias) in scheme.originals.items() if _is_corrected(graph, layer, bias)}
    simulation = Simulation(graph, scheme)
    shifts: dict[Node, list[torch.Tensor]] = {layer: [] for layer in originals}
    for inputs in samples:
        values = simulation.values(inputs)
        with torch.no_grad():
            for layer, found in shifts.items():
                original = scheme.originals[layer][0]
                error = scheme.rounded(layer, constant(graph, layer.args[1])) - original  # type: ignore[arg-type]  # a constant weight
                shift = layer.target(values[layer.args[0]], error, None, *layer.args[3:])  # type: ignore[operator, index]  # an ATen layer
                found.append(_middles(shift, channel_axis(layer)))
    return {
        layer: (0 if bias is None else bias) - _believable(torch.stack(shifts[layer]))
        for layer, bias in originals.items()
    }


def _is_corrected(graph: GraphModule, layer: Node, original: torch.Tensor | None) -> bool:
    bias: Any = (*layer.args[2:3], None)[0]
    if bias is None or original is None:
        return bias is not original
    return not torch.equal(constant(graph, bias), original)


class _Rows:
    """What the nodes of a graph give, for several samples; a tensor goes with the last node that reads it."""

    def __init__(self, graph: GraphModule, simulation: Simulation, samples: list[tuple[torch.Tensor, ...]]) -> None:
        places = [node for node in graph.graph.nodes if node.op == "placeholder"]
        self._simulation = simulation
        self._rows: list[dict[Node, Any]] = [dict(zip(places, sample, strict=True)) for sample in samples]
        self._last_read = simulation.user_to_last_uses

    def computed(self, node: Node) -> list[Any]:
        """What ``node`` gives for each sample, before it is stored."""
        results = []
        for row in self._rows:
            self._simulation.env = row
            results.append(self._simulation.computed(node))
        return results

    def keep(self, node: Node, results: list[Any]) -> None:
        """Let later nodes read what ``node`` gave, and forget what it was the last to read."""
        for row, result in zip(self._rows, results, strict=True):
            row[node] = result
            for read in self._last_read.get(node, []):
                row.pop(read, None)


def _middles(value: torch.Tensor, axis: int) -> torch.Tensor:
    """The median of each channel along ``axis``.

    A mean would also follow what a few saturated values do to their own
    places, and move all others: on a ResNet-50 that cost 5 dB.
    """
    places = value.transpose(0, axis).flatten(1)
    chosen = places[:, :: -(-places.shape[1] // _PLACES)].numpy()
    middle = (chosen.shape[1] - 1) // 2  # the lower of two, as torch's median, which takes nine times as long
    return torch.from_numpy(np.partition(chosen, middle, axis=1)[:, middle].copy())


def _believable(shifts: torch.Tensor) -> torch.Tensor:
    """The mean of ``shifts``, (samples, channels), less the more it may be chance.

    The estimator of James and Stein (1961) keeps of a mean what its own
    variance does not explain, so that a few samples are enough: where errors
    are not systematic, nothing is corrected.
    """
    mean = shifts.mean(dim=0)
    if len(shifts) == 1:
        return mean
    explained = shifts.var(dim=0) / len(shifts) / mean.square().clamp(min=torch.finfo(mean.dtype).tiny)
    return mean * (1.0 - explained).clamp(min=0.0)


def _subtract(graph: GraphModule, layer: Node, shift: torch.Tensor) -> None:
    source, weight, *rest = layer.args
    bias: Any = rest[0] if rest else None
    corrected = -shift if bias is None else constant(graph, bias) - shift
    layer.args = (source, weight, new_constant(graph, layer, corrected), *rest[1:])


def _along(axis: int, shift: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    shape = [1] * value.dim()
    shape[axis] = -1
    return shift.reshape(shape)
