"""AdaRound: each weight is rounded up or down so that its layer's output, not the weight itself, is met best.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization"
(ICML 2020). The squared error of a layer's output over the calibration
inputs x is a quadratic form of its rounding errors e: the mean of (e x)^2
is e H e with H = mean(x x^T), one for each output channel, and every weight
has two integers to choose from. The paper relaxes this binary problem and
descends on it by gradients. Here H is kept whole, so that the effect of one
decision is known exactly; steepest coordinate descent starts from rounding
to nearest and changes the best decision of each channel until no single
change helps. On photos that it had not seen that left 60 % of the error of
rounding to nearest, over the layers of EfficientNet-Lite0; gradient steps
took a hundred times as long and left more. It cannot end above rounding to
nearest.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgeq.quantize.attributes import constant, new_constant
from edgeq.quantize.channels import grouped, ungrouped
from edgeq.quantize.plan import TRANSPOSED
from edgeq.quantize.scheme import WEIGHT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch.fx import GraphModule, Node

    from edgeq.model import Dataset
    from edgeq.progress import Progress
    from edgeq.quantize.scheme import Scheme

_SAMPLES = 128
"""Calibration samples that are used at most, spread over all there are."""

_WIDEST = 4608
"""Weights of a channel that are decided on together: 512 inputs under a 3x3 kernel. Of more, one part after another."""

_MEMORY = 512 * 2**20
"""Bytes of H in memory at a time; a network that needs more runs over the samples more than once."""

_FEWEST_VECTORS = 8192
_VECTORS_PER_INPUT = 4
"""Places of an image are left out where that leaves this many vectors x, over all samples."""

_WEIGHTS_AT_ONCE = 2**22
"""Weights that descend together: bounds the memory of a step."""

_WORTHWHILE = 1e-6
"""Smallest gain of a change, in units of what a weight of average input costs; keeps float32 from going in circles."""


def round_adaptively(  # noqa: PLR0913  # what it works on, and how
    graph: GraphModule,
    scheme: Scheme,
    calibration: Dataset,
    *,
    biases_follow: bool,
    progress: Progress,
    seed: int = 0,
) -> None:
    """Put the weights of every int8 layer of the float ``graph`` on the grid that ``scheme`` gives them.

    Emitting the graph rounds each to the very integer chosen here.
    ``biases_follow`` says that biases are corrected afterwards: that takes
    the mean error out, and what varies around it is all that counts here.
    ``seed`` picks the places of large images that are looked at.
    """
    former = {layer: constant(graph, layer.args[1]) for layer in scheme.weights}  # type: ignore[arg-type]  # of a plan
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        integers = {layer: _nearest(_in_steps(layer, weight, scheme)) for layer, weight in former.items()}
        for products in _in_memory(_Products(layer, part) for layer in former for part in _parts(integers[layer])):
            _gather(graph, products, calibration, generator, progress)
            progress.step("rounding weights adaptively")
            for done, one in enumerate(products, 1):
                steps = _in_steps(one.layer, former[one.layer], scheme)[..., one.part]
                integers[one.layer][..., one.part] = _descended(steps, one.matrix(centred=biases_follow))
                progress.advance(done, len(products))
        for layer, weight in former.items():
            value = ungrouped(layer, integers[layer].reshape(grouped(layer, weight).shape))
            layer.update_arg(1, new_constant(graph, layer, value * scheme.weight_scale(layer, weight)))
    graph.graph.eliminate_dead_code()
    graph.recompile()


class _Products:
    """The mean of x x^T over what the outputs of ``layer`` see, for the inputs in ``part`` of each group."""

    def __init__(self, layer: Node, part: slice) -> None:
        self.layer = layer
        self.part = part
        self._sum: torch.Tensor | None = None
        self._total: torch.Tensor | None = None
        self._count = 0

    @property
    def size(self) -> int:
        """Bytes of the sum, float32."""
        groups, _, inputs, taps = grouped(self.layer, self.layer.args[1].meta["val"]).shape  # type: ignore[union-attr]
        return 4 * groups * len(range(inputs * taps)[self.part]) ** 2

    def add(self, vectors: torch.Tensor) -> None:
        """Take inputs of shape (groups, inputs of a group, vectors) into account."""
        vectors = vectors[:, self.part]
        if self._sum is None or self._total is None:
            self._sum = vectors @ vectors.transpose(1, 2)
            self._total = vectors.sum(dim=2)
        else:
            self._sum.baddbmm_(vectors, vectors.transpose(1, 2))
            self._total += vectors.sum(dim=2)
        self._count += vectors.shape[2]

    def matrix(self, *, centred: bool) -> torch.Tensor:
        """The mean of products (groups, inputs, inputs), without the products of the means if ``centred``.

        Means of few vectors hold chance products of inputs that have
        nothing to do with each other. They weigh the less, the fewer
        vectors there are for the number of inputs; the diagonal stays.
        """
        assert self._sum is not None  # noqa: S101  # there is a sample: calibration has run
        assert self._total is not None  # noqa: S101  # the same
        matrix = self._sum / self._count
        self._sum = None
        if centred:
            mean = self._total / self._count
            matrix -= mean[:, :, None] * mean[:, None, :]
        diagonal = torch.diagonal(matrix, dim1=1, dim2=2).clone()
        matrix *= self._count / (self._count + matrix.shape[1])
        torch.diagonal(matrix, dim1=1, dim2=2).copy_(diagonal)
        return matrix


class _Gathering(torch.fx.Interpreter):
    """Runs a float graph and adds up the products of what the layers read."""

    def __init__(self, graph: GraphModule, products: list[_Products], generator: torch.Generator) -> None:
        super().__init__(graph)
        self._generator = generator
        self._readers: dict[Node, dict[Node, list[_Products]]] = {}
        for one in products:
            source: Any = one.layer.args[0]
            self._readers.setdefault(source, {}).setdefault(one.layer, []).append(one)

    def run_node(self, n: Node) -> Any:  # noqa: ANN401  # a node gives whatever its operator gives
        """Run one node and look at its result if layers read it."""
        result = super().run_node(n)
        for layer, products in self._readers.get(n, {}).items():
            vectors = self._some(_vectors(layer, result))
            for one in products:
                one.add(vectors)
        return result

    def _some(self, vectors: torch.Tensor) -> torch.Tensor:
        """As many of the vectors of a sample as are needed, drawn at random."""
        needed = max(_FEWEST_VECTORS, vectors.shape[1] * _VECTORS_PER_INPUT) // _SAMPLES
        if vectors.shape[2] <= needed:
            return vectors
        return vectors[:, :, torch.randperm(vectors.shape[2], generator=self._generator)[:needed]]


def _gather(
    graph: GraphModule,
    products: list[_Products],
    calibration: Dataset,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    progress.step("learning which inputs of layers go together")
    gathering = _Gathering(graph, products, generator)
    known = calibration.samples or calibration.seen
    apart = max(1, known // _SAMPLES)
    for done, sample in enumerate(islice(calibration, 0, apart * _SAMPLES, apart), 1):
        gathering.run(*sample.inputs)
        progress.advance(done, min(_SAMPLES, known or _SAMPLES))


def _in_memory(products: Iterable[_Products]) -> Iterator[list[_Products]]:
    """As many at a time as fit; at least one."""
    batch: list[_Products] = []
    for one in products:
        if batch and sum(other.size for other in batch) + one.size > _MEMORY:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _parts(weights: torch.Tensor) -> list[slice]:
    """The inputs of a layer in parts of equal length, each of which is decided on by itself."""
    inputs = weights.shape[2]
    length = math.ceil(inputs / math.ceil(inputs / _WIDEST))
    return [slice(start, min(start + length, inputs)) for start in range(0, inputs, length)]


def _in_steps(layer: Node, weight: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """The weight in units of its scale, (groups, outputs of a group, inputs of a group x taps)."""
    return grouped(layer, weight * (1.0 / scheme.weight_scale(layer, weight))).flatten(2)


def _nearest(steps: torch.Tensor) -> torch.Tensor:
    return torch.clamp(torch.round(steps), -WEIGHT_LIMIT, WEIGHT_LIMIT)


def _descended(steps: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The integers beside ``steps`` (groups, outputs, inputs) that are best by ``matrix`` (groups, inputs, inputs)."""
    rows = max(1, _WEIGHTS_AT_ONCE // (steps.shape[0] * steps.shape[2]))
    return torch.cat([_descended_rows(some, matrix) for some in torch.split(steps, rows, dim=1)], dim=1)


def _descended_rows(steps: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Change, in every row at once, the decision that lowers e H e most, until none does.

    With e changed by d = 1 or -1 at input j it changes by 2 d (H e)_j + H_jj.
    """
    below = torch.clamp(torch.floor(steps), -WEIGHT_LIMIT, WEIGHT_LIMIT - 1)
    up = _nearest(steps) - below
    slope = (below + up - steps) @ matrix
    costs = torch.diagonal(matrix, dim1=1, dim2=2)[:, None]
    worthwhile = _WORTHWHILE * costs.mean(dim=2)
    groups = torch.arange(len(matrix))[:, None]
    for _ in range(4 * steps.shape[2]):
        change = 1 - 2 * up
        gain, place = (2 * change * slope + costs).min(dim=2)
        better = gain < -worthwhile
        if not better.any():
            break
        step = torch.gather(change, 2, place[..., None]) * better[..., None]
        up.scatter_add_(2, place[..., None], step)
        slope += step * matrix[groups, place]
    return below + up


def _vectors(layer: Node, value: torch.Tensor) -> torch.Tensor:
    """What each output of ``layer`` sees of ``value``: (groups, inputs of a group x taps, vectors)."""
    if layer.target == torch.ops.aten.linear.default:
        return value.reshape(1, -1, value.shape[-1]).transpose(1, 2)
    shape = layer.args[1].meta["val"].shape  # type: ignore[union-attr]  # a layer's weight is a node
    planes = len(shape) - 2
    args: list[Any] = [*layer.args[3:], *[None] * 6]
    transposed = layer.target in TRANSPOSED
    kernel = _pair(shape[2:], planes, 1)
    stride, padding = _pair(args[0], planes, 1), _pair(args[1], planes, 0)
    dilation = _pair(args[4 if transposed else 2], planes, 1)
    image = value.reshape(*value.shape[:2], *[1] * (2 - planes), *value.shape[2:])
    if transposed:
        image = _spread(image, kernel, stride, padding, dilation, _pair(args[2], planes, 0))
        stride, padding = (1, 1), (0, 0)
    vectors = functional.unfold(image, kernel, dilation=dilation, padding=padding, stride=stride)
    if transposed:
        vectors = vectors.reshape(image.shape[1], math.prod(kernel), -1).flip(1)
    return vectors.reshape(int(args[3] or 1), -1, vectors.shape[2])


def _spread(  # noqa: PLR0913, PLR0917  # what a transposed convolution is made of
    image: torch.Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    extra: tuple[int, int],
) -> torch.Tensor:
    """What an ordinary convolution with the flipped kernel turns into the transposed convolution of ``image``."""
    height, width = ((size - 1) * step + 1 for size, step in zip(image.shape[2:], stride, strict=True))
    spread = image.new_zeros(*image.shape[:2], height, width)
    spread[:, :, :: stride[0], :: stride[1]] = image
    top, left = (space * (size - 1) - cut for space, size, cut in zip(dilation, kernel, padding, strict=True))
    return functional.pad(spread, (left, left + extra[1], top, top + extra[0]))


def _pair(given: Any, planes: int, default: int) -> tuple[int, int]:  # noqa: ANN401  # an argument of a node
    """A number for height and one for width; a signal has a height of one."""
    numbers = list(given or [default])
    return (default if planes == 1 else int(numbers[0])), int(numbers[-1])
