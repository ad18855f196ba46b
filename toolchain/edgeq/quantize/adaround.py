"""AdaRound: the weights of a layer are rounded up or down together, so that its output changes least.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization"
(ICML 2020). The squared error of a linear layer's output is a quadratic form
of the rounding errors of an output channel's weights, with the second
moments of the layer's inputs: section 3.2, equation 13. The paper relaxes
that binary problem and descends by gradient. Here it is descended one weight
after the other, over and over, until no single step helps: the form gives
the gain of each step exactly, so that the error never rises, ends below that
of rounding to nearest, and nothing is random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Interpreter, Node

from edgeq.quantize.attributes import constant, new_constant
from edgeq.quantize.channels import grouped, ungrouped
from edgeq.quantize.plan import CONVOLUTIONS, TRANSPOSED
from edgeq.quantize.scheme import WEIGHT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.fx import GraphModule

    from edgeq.model import Dataset
    from edgeq.progress import Progress
    from edgeq.quantize.scheme import Scheme

_ATEN = torch.ops.aten

_SAMPLES = 128
_PLACES = 256
"""Of an image; neighbouring places tell much the same."""

_MOST_BYTES = 512 << 20
"""Moments held in one pass over the samples; layers beyond it wait for the next."""

_SWEEPS = 12
_DAMPING = 1e-4
"""Of the mean diagonal: inputs that never vary leave rounding undecided, and it stays at the nearest."""


def round_adaptively(
    graph: GraphModule, scheme: Scheme, calibration: Dataset, *, biases_follow: bool, progress: Progress
) -> dict[Node, torch.Tensor]:
    """Replace the weights of every layer of ``scheme`` by values on its integer grid; return what they were.

    Up to 128 calibration samples are run, as often as the moments of all
    layers need in bounded memory. Where ``biases_follow``, errors of the
    mean are left to bias correction. Transposed convolutions keep rounding
    to nearest.
    """
    former: dict[Node, torch.Tensor] = {}
    layers = [layer for layer in scheme.weights if layer.target not in TRANSPOSED]
    progress.step("rounding adaptively")
    for count, part in enumerate(_parts(graph, layers), 1):
        for layer, moments in _moments(graph, part, calibration).items():
            weight = constant(graph, layer.args[1])  # type: ignore[arg-type]  # a layer of the plan has constant weights
            rounded = _descended(layer, weight, scheme, moments.matrix(centered=biases_follow))
            former[layer] = weight
            layer.update_arg(1, new_constant(graph, layer, rounded))
            progress.advance(count, None)
    graph.recompile()
    return former


def _parts(graph: GraphModule, layers: Sequence[Node]) -> Iterator[list[Node]]:
    """The layers, as many at a time as have their moments in memory."""
    part: list[Node] = []
    held = 0
    for layer in layers:
        groups, _, inputs, taps = grouped(layer, constant(graph, layer.args[1])).shape  # type: ignore[arg-type]
        size = 4 * groups * (inputs * taps) ** 2
        if part and held + size > _MOST_BYTES:
            yield part
            part, held = [], 0
        part.append(layer)
        held += size
    if part:
        yield part


@dataclass(kw_only=True)
class _Moments:
    """Sums over what a layer reads: of products, shape (groups, inputs, inputs), and of values (groups, inputs)."""

    products: torch.Tensor
    values: torch.Tensor
    count: int = 0

    def add(self, rows: torch.Tensor) -> None:
        """Take ``rows``, of shape (groups, inputs, places), into account."""
        self.products.baddbmm_(rows, rows.transpose(1, 2))
        self.values += rows.sum(dim=2)
        self.count += rows.shape[2]

    def matrix(self, *, centered: bool) -> torch.Tensor:
        """The second moments, about the mean or about 0, with a little on the diagonal: (groups, inputs, inputs)."""
        mean = self.values / self.count
        matrix = self.products / self.count
        if centered:
            matrix -= mean.unsqueeze(2) * mean.unsqueeze(1)
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        diagonal += _DAMPING * diagonal.mean(dim=1, keepdim=True) + torch.finfo(torch.float32).tiny
        return matrix


def _moments(graph: GraphModule, layers: Sequence[Node], calibration: Dataset) -> dict[Node, _Moments]:
    found = {}
    for layer in layers:
        groups, _, inputs, taps = grouped(layer, constant(graph, layer.args[1])).shape  # type: ignore[arg-type]
        size = inputs * taps
        found[layer] = _Moments(products=torch.zeros(groups, size, size), values=torch.zeros(groups, size))
    watch = _Watch(graph, found)
    with torch.no_grad():
        for count, sample in enumerate(calibration):
            if count == _SAMPLES:
                break
            watch.run(*sample.inputs)
    return found


class _Watch(Interpreter):
    """Runs a graph and adds what layers read to their moments."""

    def __init__(self, graph: GraphModule, moments: dict[Node, _Moments]) -> None:
        super().__init__(graph)
        self._moments = moments

    def run_node(self, n: Node) -> Any:  # noqa: ANN401  # a node gives whatever its operator gives
        """Run one node; a watched layer's input is taken apart first."""
        if n in self._moments:
            args, _ = self.fetch_args_kwargs_from_env(n)
            moments = self._moments[n]
            moments.add(_rows(n, args[0], args[1].shape).reshape(*moments.values.shape, -1))
        return super().run_node(n)


def _rows(layer: Node, value: torch.Tensor, weight: torch.Size) -> torch.Tensor:
    """What each output value of ``layer`` is a product of: (all inputs, places), places spread evenly."""
    if layer.target == _ATEN.linear.default:
        rows = value.reshape(-1, value.shape[-1]).T
    else:
        assert layer.target in CONVOLUTIONS  # noqa: S101  # the caller leaves transposed ones out
        stride, padding, dilation = (_pair(layer, index, default) for index, default in ((3, 1), (4, 0), (5, 1)))
        image = value if value.dim() == 4 else value.unsqueeze(2)  # noqa: PLR2004  # batch, channels, height, width
        kernel = (1,) * (4 - len(weight)) + tuple(weight[2:])
        rows = torch.nn.functional.unfold(image, kernel, dilation, padding, stride)[0]
    every = max(rows.shape[1] // _PLACES, 1)
    return rows[:, ::every]


def _pair(layer: Node, index: int, default: int) -> tuple[int, int]:
    """An argument of a convolution for height and width; a signal has height 1."""
    given: Any = layer.args[index] if len(layer.args) > index else default
    values = [given] if isinstance(given, int) else list(given)
    if layer.target == _ATEN.conv1d.default:
        return (0 if index == 4 else 1), values[0]  # noqa: PLR2004  # padding comes fifth
    return (values[0], values[-1])


def _descended(layer: Node, weight: torch.Tensor, scheme: Scheme, matrix: torch.Tensor) -> torch.Tensor:
    """``weight`` on its grid, with the least output error that changing one integer at a time arrives at."""
    parts = grouped(layer, weight)
    steps = grouped(layer, scheme.weight_scale(layer, weight).expand_as(weight)).flatten(2)
    shape = parts.shape
    exact = parts.flatten(2) / steps
    low, high = exact.floor().clamp(min=-WEIGHT_LIMIT), exact.ceil().clamp(max=WEIGHT_LIMIT)
    integers = exact.round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
    # One output channel has one step, so that errors may be counted in steps.
    slope = torch.bmm(integers - exact, matrix)
    for _ in range(_SWEEPS):
        changed = False
        for index in range(exact.shape[2]):
            curvature = matrix[:, index, index].reshape(-1, 1)
            other = torch.where(integers[..., index] == low[..., index], high[..., index], low[..., index])
            move = other - integers[..., index]
            gain = -(2 * slope[..., index] * move + curvature * move.square())
            move = torch.where(gain > 0, move, torch.zeros_like(move))
            if bool(move.any()):
                integers[..., index] += move
                slope += move.unsqueeze(2) * matrix[:, index].unsqueeze(1)
                changed = True
        if not changed:
            break
    return ungrouped(layer, (integers * steps).reshape(shape))
