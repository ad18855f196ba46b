"""Which layers hurt: the noise that each operation makes when it alone is int8, and how noise adds up on the way.

Each sample is run once in float, once in int8, and once for each operation
from there on to the end, everything before it being known. So the cost is
about half a pass for each operation and sample, and memory that of one
sample's tensors.

An operation's noise is that of its rounded weights and of its rounded
result; a rounded input counts where it is stored. So each rounding counts
once, and the noise of operations that are each int8 alone adds up to about
the noise of all of them, as long as it is small: rounding errors are nearly
uncorrelated (Lin et al., "Fixed Point Quantization of Deep Convolutional
Networks", ICML 2016).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch.utils import _pytree as pytree

from edgeq.quantize.attributes import constant
from edgeq.quantize.bias import biases_alone
from edgeq.quantize.macs import macs, operator_name
from edgeq.quantize.rewrite.activations import CLAMPS
from edgeq.quantize.simulate import SAMPLES, OutputNoise, Simulation, power
from edgeq.quantize.source import module_of, source_of
from edgeq.records import LayerNumerics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch.fx import GraphModule, Node

    from edgeq.model import Dataset
    from edgeq.progress import Progress
    from edgeq.quantize.plan import Operation
    from edgeq.quantize.scheme import Scheme

_AFFORDABLE_MACS = 60_000_000_000
_FEWEST_SAMPLES = 2

__all__ = ["LayerNumerics", "Sensitivity", "measure", "sensitivities"]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The operations of a graph one by one, and all together; ``final_sqnr_db`` is None if nothing is lost."""

    samples: int
    final_sqnr_db: float | None
    answers_changed: int
    operations: tuple[LayerNumerics, ...]


def sensitivities(
    graph: GraphModule, scheme: Scheme, calibration: Dataset, *, samples: int = SAMPLES, progress: Progress
) -> tuple[LayerNumerics, ...]:
    """The layers of ``scheme`` in the order of the graph: those with weights alone.

    What a clamp rounds counts for the layer before it, which in float would
    have the clamp in float as well.
    """
    operations = [one for one in that_round(scheme) if one.kind == "layer" or one.node.target in CLAMPS]
    rows = measure(graph, scheme, operations, calibration, samples=samples, progress=progress).operations
    maker = {operation.output: operation for operation in scheme.plan.operations}
    noise: dict[Node, float] = defaultdict(float)
    for operation, row in zip(operations, rows, strict=True):
        layer: Operation | None = operation
        while layer is not None and layer.kind != "layer":
            layer = maker.get(layer.inputs[0])
        if layer is not None:
            noise[layer.node] += row.noise_share
    return tuple(
        replace(row, noise_share=noise[operation.node])
        for operation, row in zip(operations, rows, strict=True)
        if operation.kind == "layer"
    )


def that_round(scheme: Scheme) -> list[Operation]:
    """The operations that round: those with weights, or with a scale of their own, and clamps of stored integers.

    What only moves values gives integers that are there already. A clamp
    gives its bounds too, which lie between two steps of the scale it shares.
    """
    return [
        operation
        for operation in scheme.plan.operations
        if operation.kind != "shared" or operation.node.target in CLAMPS
    ]


def measure(  # noqa: PLR0913  # what is measured, on what, how far
    graph: GraphModule,
    scheme: Scheme,
    operations: Sequence[Operation],
    calibration: Dataset,
    *,
    samples: int = SAMPLES,
    progress: Progress,
) -> Sensitivity:
    """Measure ``operations`` of ``scheme`` on up to ``samples`` calibration samples.

    ``graph`` is the float graph as it is about to be emitted.
    """
    progress.step("measuring what rounding costs at each layer")
    chosen = [sample.inputs for sample in calibration.few(samples)]
    simulation = Simulation(graph, scheme, biases_alone(graph, scheme, chosen))
    tallies = [_Tally(operation, graph) for operation in operations]
    together = _Answers()
    output = next(node for node in graph.graph.nodes if node.op == "output")
    towards = {tally.operation.output: tally.accumulated for tally in tallies}
    for count, inputs in enumerate(chosen, 1):
        values = simulation.values(inputs)
        wanted = tuple(pytree.tree_leaves(values[output]))
        for tally in tallies:
            tally.add(simulation, inputs, values, wanted)
        got = simulation.outputs(inputs, scheme.plan.operations, watch=_compare(values, towards))
        together.add(wanted, got)
        progress.advance(count, len(chosen))
    return Sensitivity(
        samples=len(chosen),
        final_sqnr_db=_decibels(together.noise.share),
        answers_changed=together.changed,
        operations=_rows(graph, scheme, tallies),
    )


def affordable_samples(operations: Sequence[Operation]) -> int:
    """How many samples, at most the usual number, :func:`measure` runs in a few seconds on one core."""
    cost = sum(macs(node) for operation in operations for node in _downstream(operation.node))
    return min(SAMPLES, max(_FEWEST_SAMPLES, _AFFORDABLE_MACS // max(cost, 1)))


@dataclass(kw_only=True)
class _Noise:
    """Signal and noise power of one tensor, summed up over samples."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, wanted: torch.Tensor, got: torch.Tensor) -> None:
        self.signal += power(wanted)
        self.noise += power(got.double() - wanted.double())

    @property
    def decibels(self) -> float | None:
        return _decibels(self.noise / self.signal if self.signal else self.noise)


@dataclass(kw_only=True)
class _Answers:
    """The outputs of the model against those of float: their noise, and how often the first one's top-1 differs."""

    noise: OutputNoise = field(default_factory=OutputNoise)
    changed: int = 0

    def add(self, wanted: tuple[torch.Tensor, ...], got: tuple[torch.Tensor, ...]) -> None:
        self.noise.add(wanted, got)
        self.changed += int(wanted[0].double().argmax()) != int(got[0].double().argmax())


def _compare(values: dict[Node, Any], towards: dict[Node, _Noise]) -> Callable[[Node, Any], None]:
    """Add up, for some nodes, how far what they give in int8 is from ``values``."""

    def watch(node: Node, value: torch.Tensor) -> None:
        if node in towards:
            towards[node].add(values[node], value)

    return watch


class _Tally:
    """What is known so far of one operation."""

    def __init__(self, operation: Operation, graph: GraphModule) -> None:
        self.operation = operation
        self.own = _Noise()
        self.accumulated = _Noise()
        self.answers = _Answers()
        downstream = _downstream(operation.node)
        self._known = [node for node in graph.graph.nodes if node not in downstream]

    def add(
        self,
        simulation: Simulation,
        inputs: tuple[torch.Tensor, ...],
        values: dict[Node, Any],
        wanted: tuple[torch.Tensor, ...],
    ) -> None:
        """Run what follows the operation, with it alone in int8."""
        got = simulation.outputs(
            inputs,
            (self.operation,),
            alone=True,
            known={node: values[node] for node in self._known},
            watch=_compare(values, {self.operation.output: self.own}),
        )
        self.answers.add(wanted, got)


def _downstream(node: Node) -> set[Node]:
    """``node`` and all that depends on it."""
    found, waiting = {node}, [node]
    while waiting:
        new = [user for user in waiting.pop().users if user not in found]
        found.update(new)
        waiting += new
    return found


def _rows(graph: GraphModule, scheme: Scheme, tallies: list[_Tally]) -> tuple[LayerNumerics, ...]:
    total_macs = sum(macs(node) for node in graph.graph.nodes) or 1
    total_noise = sum(tally.answers.noise.share for tally in tallies) or 1.0
    rows = []
    for tally in tallies:
        node, noise = tally.operation.node, tally.answers.noise.share
        row = LayerNumerics(
            node=node.name,
            module=module_of(node),
            op=operator_name(node),
            source=source_of(node),
            kind="layer" if tally.operation.kind == "layer" else "other",
            mac_share=macs(node) / total_macs,
            weight_sqnr_db=_weight_sqnr_db(graph, scheme, node),
            own_sqnr_db=tally.own.decibels,
            output_sqnr_db=tally.accumulated.decibels,
            final_sqnr_db=_decibels(noise),
            noise_share=noise / total_noise,
            answers_changed=tally.answers.changed,
        )
        rows.append(row)
    return tuple(rows)


def _weight_sqnr_db(graph: GraphModule, scheme: Scheme, node: Node) -> float | None:
    if node not in scheme.weights:
        return None
    weight = _Noise()
    rounded = scheme.rounded(node, constant(graph, node.args[1]))  # type: ignore[arg-type]  # a constant weight
    weight.add(scheme.originals[node][0], rounded)
    return weight.decibels


def _decibels(share: float) -> float | None:
    return -10 * math.log10(share) if share else None
