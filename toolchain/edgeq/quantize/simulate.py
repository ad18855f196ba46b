"""What the int8 graph computes, on the float graph: for all of its operations, or for any few while the rest is float.

An operation in int8 reads its inputs, holds its weight and stores its
result as their integers stand for them; the sums between are float32, as in
the graph that :func:`edgeq.quantize.emit.emit` makes. (A runtime sums in
int32, without error, and rounds the bias: differences far below a step.)
Accuracy is never read off a simulation; it tells recipes and layers apart.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Interpreter, Node
from torch.utils import _pytree as pytree

from edgeq.quantize.attributes import constant

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from torch.fx import GraphModule

    from edgeq.model import Dataset
    from edgeq.quantize.plan import Operation
    from edgeq.quantize.scheme import Scheme

    Values = Mapping[Node, Any]
    """What each node of a graph gave for one sample."""

SAMPLES = 16
"""So many tell recipes apart: the noise of a layer is much the same for every sample."""


class Simulation(Interpreter):
    """Runs the float ``graph`` of a ``scheme`` with the operations named for that run in int8.

    ``graph`` is the one that is about to be emitted: its weights and biases
    may make up for rounding. A layer that stays float in a run computes
    with its originals. ``biases_alone`` are those of layers that run alone
    in int8, where they differ from what ``graph`` has.
    """

    def __init__(
        self, graph: GraphModule, scheme: Scheme, biases_alone: Mapping[Node, torch.Tensor] | None = None
    ) -> None:
        super().__init__(graph)
        self._scheme = scheme
        self._biases_alone = biases_alone or {}
        self._alone = False
        self._rounded = {
            layer: scheme.rounded(layer, constant(graph, layer.args[1]))  # type: ignore[arg-type]  # a constant weight
            for layer in scheme.weights
        }
        self._computed: dict[Node, Operation] = {}
        self._stored: frozenset[Node] = frozenset()
        self._as_they_come: frozenset[Node] = frozenset()
        self._watch: Callable[[Node, Any], None] | None = None

    def values(self, inputs: tuple[torch.Tensor, ...]) -> dict[Node, Any]:
        """What every node gives in float; all of it is in memory."""
        self.garbage_collect_values = False
        try:
            self.outputs(inputs, ())
        finally:
            self.garbage_collect_values = True
        values, self.env = self.env, {}
        return values

    def outputs(
        self,
        inputs: tuple[torch.Tensor, ...],
        in_int8: Collection[Operation],
        *,
        alone: bool = False,
        known: Values | None = None,
        watch: Callable[[Node, Any], None] | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """The outputs of the model for one sample.

        What is in ``known`` is not computed again; ``watch`` is told what
        every other node gives. ``alone`` leaves inputs unrounded that
        another operation of the scheme stores: their noise is that one's.
        """
        self.choose(in_int8, alone=alone)
        self._watch = watch
        with torch.no_grad():
            return tuple(pytree.tree_leaves(self.run(*inputs, initial_env=dict(known or {}))))

    def choose(self, in_int8: Collection[Operation], *, alone: bool = False) -> None:
        """Say what runs in int8 from now on; ``alone`` as in :meth:`outputs`."""
        self._computed = {operation.node: operation for operation in in_int8}
        self._stored = frozenset(operation.output for operation in in_int8)
        self._as_they_come = self._scheme.plan.stored if alone else self._stored
        self._alone = alone

    def computed(self, node: Node) -> Any:  # noqa: ANN401  # a node gives whatever its operator gives
        """What ``node`` gives of what ``env`` holds, before it is stored."""
        return super().run_node(node)

    def stored(self, node: Node, value: Any) -> Any:  # noqa: ANN401  # as above
        """``value`` as ``node`` stores it: rounded if an int8 operation does."""
        return self._scheme.affine(node).rounded(value) if node in self._stored else value

    def run_node(self, n: Node) -> Any:  # noqa: ANN401  # as above
        """Run one node, and round what an int8 operation stores."""
        result = self.stored(n, self.computed(n))
        if self._watch is not None:
            self._watch(n, result)
        return result

    def fetch_args_kwargs_from_env(self, n: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a node: those of an int8 operation are rounded, a layer in float has its originals."""
        operation = self._computed.get(n)
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        if n in self._rounded:
            source, _, *rest = args
            if operation is None:
                weight, bias = self._scheme.originals[n]
                return (source, weight, bias, *rest[1:]), kwargs
            if self._alone and n in self._biases_alone:
                rest[0] = self._biases_alone[n]
            return (self._read(source, operation.inputs[0]), self._rounded[n], *rest), kwargs
        if operation is not None:
            args = torch.fx.map_arg(n.args, lambda tensor: self._operand(tensor, operation))
        return args, kwargs

    def _operand(self, tensor: Node, operation: Operation) -> Any:  # noqa: ANN401  # as above
        value = self.env[tensor]
        return self._read(value, tensor) if tensor in operation.inputs else value

    def _read(self, value: torch.Tensor, tensor: Node) -> torch.Tensor:
        """``value``, which is ``tensor`` or that with zeros around it, as an int8 operation reads it."""
        return value if tensor in self._as_they_come else self._scheme.affine(tensor).rounded(value)


def simulated_sqnr_db(
    reference: GraphModule, graph: GraphModule, scheme: Scheme, calibration: Dataset, *, samples: int = SAMPLES
) -> float:
    """SQNR of what ``graph`` gives in int8 against what the float graph ``reference`` gives, in dB, over some samples.

    Infinite if nothing is lost.
    """
    simulation, float_graph = Simulation(graph, scheme), Interpreter(reference)
    noise = OutputNoise()
    for sample in calibration.few(samples):
        with torch.no_grad():
            wanted = tuple(pytree.tree_leaves(float_graph.run(*sample.inputs)))
        noise.add(wanted, simulation.outputs(sample.inputs, scheme.plan.operations))
    share = noise.share
    return -10 * math.log10(share) if share else math.inf


class OutputNoise:
    """Noise over signal at the outputs of a model, summed up over samples: the mean over outputs that have a signal."""

    def __init__(self) -> None:
        self._signal: list[float] = []
        self._noise: list[float] = []

    def add(self, wanted: tuple[torch.Tensor, ...], got: tuple[torch.Tensor, ...]) -> None:
        """Take one sample into account."""
        if not self._signal:
            self._signal, self._noise = [0.0] * len(wanted), [0.0] * len(wanted)
        for index, (first, second) in enumerate(zip(wanted, got, strict=True)):
            self._signal[index] += power(first)
            self._noise[index] += power(second.double() - first.double())

    @property
    def share(self) -> float:
        """Noise power over signal power; 0 if no output has any."""
        shares = [noise / signal for noise, signal in zip(self._noise, self._signal, strict=True) if signal]
        return sum(shares) / len(shares) if shares else 0.0


def power(tensor: torch.Tensor) -> float:
    """The sum of squares, in float64."""
    return float(tensor.double().square().sum())
