"""The normalisation of an image as part of the graph, which then takes bytes.

Everything that looks at numbers (calibration, techniques, searches,
training) works on the graph that takes floats; the bytes come last, before a
graph is exported to be lowered. The first form that is exact is taken:

* ``read``: one whole mean and one std for all channels are the zero point and
  the scale of the bytes. A dequantize node is needed to make floats of bytes
  in any case, so that this costs nothing. The int8 input of a static recipe
  has the same scale (:func:`range_of_bytes`) and holds every byte as it is;
* ``absorbed``: float convolutions without padding take mean and std into
  their weights and biases;
* ``subtracted``: float convolutions that pad: what they pad with must stay
  the channel's mean, so that is subtracted from the image; the weights take
  the std;
* ``computed``: everything else, such as an int8 convolution, whose rounded
  weights must stay what they are. The floats are then those of the model
  that is not folded, and so is every int8 tensor behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed

from edgeq.quantize.attributes import constant, is_constant, new_constant
from edgeq.records import FoldedInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.fx import GraphModule, Node

    from edgeq.input_format import Pixels

_ATEN = torch.ops.aten
_QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
_DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default


_TOLD = {
    "read": "bytes are read at scale 1/std and zero point mean, which costs nothing more",
    "absorbed": "the first convolution's weights and bias hold mean and std",
    "subtracted": "the mean is subtracted, as the first convolution pads, and its weights hold std",
    "computed": "(byte - mean) / std is computed in float, the only form that is exact here",
}


def told(folded: FoldedInput) -> str:
    """What became of the normalisation, for a person."""
    return f"takes bytes as {folded.layout}: {_TOLD[folded.form]}"


def range_of_bytes(pixels: Pixels) -> tuple[float, float] | None:
    """The range whose int8 scale and zero point give every byte an integer of its own; None where there is none."""
    if pixels.one_step is None:
        return None
    scale, zero_point = pixels.one_step
    return -zero_point * scale, (255 - zero_point) * scale


def example_bytes(pixels: Pixels) -> torch.Tensor:
    """An image of noise, always the same."""
    return torch.randint(0, 256, pixels.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def fold_input(graph: GraphModule, pixels: Pixels) -> FoldedInput:
    """Let ``graph``, which is changed and takes one normalised image, take the bytes of ``pixels``."""
    image = next(node for node in graph.graph.nodes if node.op == "placeholder")
    convolutions = _float_convolutions(graph, image)
    mean, std = torch.tensor(pixels.mean, dtype=torch.float64), torch.tensor(pixels.std, dtype=torch.float64)
    if pixels.one_step is not None:
        _put_in_front(graph, image, pixels, *pixels.one_step)
        form = "read"
    elif convolutions and not any(map(_pads, convolutions)):
        for convolution in convolutions:
            _absorb(graph, convolution, mean, std)
        _put_in_front(graph, image, pixels, 1.0, 0)
        form = "absorbed"
    elif convolutions:
        for convolution in convolutions:
            _absorb(graph, convolution, torch.zeros_like(mean), std)
        _put_in_front(graph, image, pixels, 1.0, 0, subtract=mean)
        form = "subtracted"
    else:
        _put_in_front(graph, image, pixels, 1.0, 0, subtract=mean, divide=std)
        form = "computed"
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    return FoldedInput(layout=pixels.layout, mean=pixels.mean, std=pixels.std, form=form)  # type: ignore[arg-type]  # one of its words


def _put_in_front(  # noqa: PLR0913  # what a byte stands for
    graph: GraphModule,
    image: Node,
    pixels: Pixels,
    scale: float,
    zero_point: int,
    *,
    subtract: torch.Tensor | None = None,
    divide: torch.Tensor | None = None,
) -> None:
    """Make the floats that ``image`` was of the bytes that it will be."""
    readers = list(image.users)
    behind = image.next

    def call(target: object, *args: object) -> Node:
        with graph.graph.inserting_before(behind):
            return graph.graph.call_function(target, args)  # type: ignore[arg-type]  # an operator

    floats = call(_DEQUANTIZE, image, scale, zero_point, 0, 255, torch.uint8)
    if subtract is not None and bool(subtract.any()):
        floats = call(_ATEN.sub.Tensor, floats, new_constant(graph, behind, _along_channels(subtract, pixels)))
    if divide is not None and bool((divide != 1).any()):
        floats = call(_ATEN.div.Tensor, floats, new_constant(graph, behind, _along_channels(divide, pixels)))
    if pixels.layout == "NHWC":
        numbers = {reader.args[1:] for reader in readers if reader.target == _QUANTIZE}
        if len(numbers) == 1 and all(reader.target == _QUANTIZE for reader in readers):
            # As integers: a quarter to move, and a kernel between two dtypes is none that XNNPACK has.
            integers = call(_QUANTIZE, floats, *next(iter(numbers)))
            floats = call(_DEQUANTIZE, integers, *next(iter(numbers)))
        floats = call(_ATEN.permute.default, floats, [0, 3, 1, 2])
    for reader in readers:
        reader.replace_input_with(image, floats)


def _along_channels(values: torch.Tensor, pixels: Pixels) -> torch.Tensor:
    """One number for each channel, in a shape that meets the bytes.

    Channels that lie side by side are repeated along the width: kernels go
    over the last dimension, and one of three numbers is slow.
    """
    channels = values.to(torch.float32)
    if pixels.layout == "NCHW":
        return channels.reshape(1, -1, 1, 1)
    return channels.repeat(pixels.shape[2], 1).reshape(1, 1, pixels.shape[2], -1)


def _float_convolutions(graph: GraphModule, image: Node) -> list[Node]:
    """The readers of ``image``, if all are convolutions whose weights are float constants; padding may lie between."""
    readers = list(_behind_padding(image))
    return readers if all(_takes_any_weight(graph, reader) for reader in readers) else []


def _behind_padding(image: Node) -> Iterator[Node]:
    for reader in image.users:
        if _is_zero_padding(reader):
            yield from reader.users
        else:
            yield reader


def _takes_any_weight(graph: GraphModule, node: Node) -> bool:
    if node.target != _ATEN.conv2d.default or not is_constant(node.args[1]) or node.kwargs:
        return False
    groups = node.args[6] if len(node.args) > 6 else 1  # noqa: PLR2004  # groups come seventh
    bias = node.args[2] if len(node.args) > 2 else None  # noqa: PLR2004  # input, weight, bias
    is_float = constant(graph, node.args[1]).dtype == torch.float32  # type: ignore[arg-type]  # a constant
    return bool(groups == 1 and is_float and (bias is None or is_constant(bias)))


def _is_zero_padding(node: Node) -> bool:
    return bool(node.target == _ATEN.constant_pad_nd.default and (len(node.args) < 3 or node.args[2] == 0))  # noqa: PLR2004  # input, amounts, value


def _pads(convolution: Node) -> bool:
    padding = convolution.args[4] if len(convolution.args) > 4 else 0  # noqa: PLR2004  # padding comes fifth
    inside = any(padding) if isinstance(padding, list | tuple) else padding != 0
    return bool(inside or convolution.args[0].op != "placeholder")  # type: ignore[union-attr]  # a padding, or the image


def _absorb(graph: GraphModule, convolution: Node, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Let ``convolution`` take pixels in place of (pixel - mean) / std."""
    weight = constant(graph, convolution.args[1]).double() / std.reshape(1, -1, 1, 1)  # type: ignore[arg-type]  # a constant
    given = convolution.args[2] if len(convolution.args) > 2 else None  # noqa: PLR2004  # input, weight, bias
    bias = torch.zeros(len(weight), dtype=torch.float64) if given is None else constant(graph, given).double()  # type: ignore[arg-type]  # a constant
    bias = bias - (weight * mean.reshape(1, -1, 1, 1)).sum((1, 2, 3))
    stored = [new_constant(graph, convolution, value.float()) for value in (weight, bias)]
    convolution.args = (convolution.args[0], *stored, *convolution.args[3:])
