"""Patterns known to lose accuracy, looked for in the numbers of a scheme: each finding says what it saw and what to do.

All of it is read off weights, scales and what calibration saw; nothing is
run. A pattern is a finding only where it leaves few of the 255 steps of an
int8 tensor (or of the 127 of a weight) to what matters.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch

from edgeq.quantize.attributes import constant
from edgeq.quantize.observers import RANGES
from edgeq.quantize.plan import CONVOLUTIONS, TRANSPOSED, readers, unread_results
from edgeq.quantize.rewrite.activations import CLAMPS
from edgeq.quantize.saturation import useful_bounds
from edgeq.quantize.scheme import HIGHEST, LOWEST, WEIGHT_LIMIT, output_axis
from edgeq.quantize.source import module_of, source_of
from edgeq.records import NumericFinding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.fx import GraphModule, Node

    from edgeq.quantize.plan import Operation
    from edgeq.quantize.scheme import Affine, Scheme
    from edgeq.quantize.statistics import Statistics, TensorStatistics

FEW_STEPS = 32
"""Five bits: at best 30 dB, which is what whole networks keep with eight."""

VERY_FEW_STEPS = 8
"""Three bits, for channels: not every one of them matters as much as the largest."""

_MANY_CHANNELS = 0.25
_MANY_DEAD = 0.05
_TAIL = 0.001
_FEW_VALUES = 0.01
"""The part of a tensor's values, exact zeros aside, that may stretch a range without being what it is for."""

_ENOUGH_SAMPLES = 8
_RAISED = 1.5
_INT8_STEPS = HIGHEST - LOWEST
_INT16 = 32767
_UINT8_OFFSET = 128


def find(graph: GraphModule, scheme: Scheme, statistics: Statistics, *, saturating: bool) -> tuple[NumericFinding, ...]:
    """Everything found in a ``graph`` that is about to be emitted with the numbers of ``scheme``.

    ``statistics`` are those the scheme was settled with. ``saturating``
    says that the target multiplies uint8 by int8 in instructions whose
    sums of two are cut to int16: ONNX Runtime on x86 without VNNI.
    """
    found = [
        *_stretched_ranges(scheme, statistics),
        *uneven_channels(scheme, statistics),
        *_shared_scales(scheme, statistics),
        *_narrow_results(scheme, statistics),
        *_weights(graph, scheme, statistics),
        *_dead_channels(graph, scheme, statistics),
    ]
    if saturating:
        found += _saturating_products(graph, scheme, statistics)
    return tuple(found)


def _stretched_ranges(scheme: Scheme, statistics: Statistics) -> Iterator[NumericFinding]:
    """Ranges that a few values stretch until nearly all others share a few steps.

    Judged by what the others lose, not by the squared error of all values:
    a cut costs the square of all that it takes from an outlier, so that even
    the cut of least error leaves one value in 100,000 as it is.
    Tensors that results are read from keep their largest values on purpose.
    A range that integer kernels need so wide is no work of outliers.
    """
    for leader, tensors in _groups(scheme).items():
        if leader in scheme.plan.results:
            continue
        first, *others = (statistics.of(tensor) for tensor in tensors)
        seen, affine = first.merged(*others), scheme.activations[leader]
        low, high = seen.histogram.narrowest_range(1 - _FEW_VALUES)
        steps = (high - low) / affine.scale
        if 0 < steps < FEW_STEPS < (seen.maximum - seen.minimum) / affine.scale:
            maker = _maker(scheme, leader)
            enough = _observers_that_leave(FEW_STEPS, high - low, seen.clamped(*useful_bounds(*tensors)), affine)
            spare = "+smooth before linear layers if few channels hold them, or keep_float for the layers that read it"
            yield _finding(
                "stretched-range",
                maker,
                f"{100 - 100 * _FEW_VALUES:g} % of the values of {_called(maker)} lie between {low:.3g} and {high:.3g} "
                f"and a few outliers stretch its int8 range to {_INT8_STEPS * affine.scale:.3g}: {steps:.0f} of 255 "
                "steps are left for them",
                f"an observer that cuts outliers off ({' or '.join(enough)} after the recipe's name); if the outliers "
                f"are needed, {spare}"
                if enough
                else f"no observer cuts enough of the outliers off: {spare}",
                {"low": low, "high": high, "range": _INT8_STEPS * affine.scale, "steps": steps},
            )


def _observers_that_leave(steps: float, width: float, seen: TensorStatistics, affine: Affine) -> list[str]:
    """The words for a recipe's name under which values ``width`` apart would have at least so many ``steps``.

    A zero point of 0 stands in the middle of its range, whatever the
    observer says.
    """
    found = []
    for name, rule in RANGES.items():
        low, high = rule(seen, _INT8_STEPS)
        whole = 2 * max(-low, high) if affine.zero_point == 0 else high - low
        if width * _INT8_STEPS >= steps * whole:
            found.append(f"+{name}")
    return found


def uneven_channels(scheme: Scheme, statistics: Statistics) -> Iterator[NumericFinding]:
    """What a layer reads, or makes for float operators, where many channels are tiny beside that of the scale."""
    told = set()
    read = readers(scheme.plan.operations)
    by_layers = [tensor for tensor, found in read.items() if any(operation.kind == "layer" for operation in found)]
    for tensor in (*by_layers, *unread_results(scheme.plan)):
        seen, leader = statistics.of(tensor), scheme.plan.leader[tensor]
        if seen.channel_minimum is None or seen.channel_maximum is None or leader in told:
            continue
        ranges = seen.channel_maximum.clamp(min=0) - seen.channel_minimum.clamp(max=0)
        alive = ranges[ranges > 0]
        starved = int((alive < VERY_FEW_STEPS * scheme.affine(tensor).scale).sum())
        if starved > _MANY_CHANNELS * len(alive) and alive.max() > FEW_STEPS * scheme.affine(tensor).scale:
            told.add(leader)
            maker = _maker(scheme, tensor)
            ratio = float(alive.max() / alive.min())
            yield _finding(
                "uneven-channels",
                maker,
                f"{starved} of {len(alive)} channels of {_called(maker)} use less than {VERY_FEW_STEPS} of 255 steps: "
                f"one scale holds them all, and the widest is {ratio:.3g} times the narrowest",
                "+equalize after the recipe's name, which moves the difference into the weights (+smooth where a "
                "layer norm stands before it, or float operators alone read it)",
                {"starved": starved, "channels": len(alive), "ratio": ratio},
            )


def _shared_scales(scheme: Scheme, statistics: Statistics) -> Iterator[NumericFinding]:
    """The narrowest of tensors that share one scale: behind a clamp that was not fused, or in a concatenation."""
    for leader, tensors in _groups(scheme).items():
        scale = scheme.activations[leader].scale
        widths = {tensor: statistics.of(tensor).maximum - statistics.of(tensor).minimum for tensor in tensors}
        tensor = min(tensors, key=lambda tensor: widths[tensor] or float("inf"))
        seen, steps = statistics.of(tensor), widths[tensor] / scale
        if len(tensors) == 1 or not 0 < steps < FEW_STEPS or max(widths.values()) < _RAISED * widths[tensor]:
            continue
        clamp = tensor.target in CLAMPS and tensor.args[0] in scheme.plan.leader
        maker = _maker(scheme, tensor)
        yield _finding(
            "unfused-clamp" if clamp else "shared-scale",
            maker,
            f"{_called(maker)} holds values from {seen.minimum:.3g} to {seen.maximum:.3g} and shares its scale with a "
            f"tensor as wide as {max(widths.values()):.3g}"
            + (", as others read what it clamps" if clamp else "")
            + f": {steps:.0f} of 255 steps are left for it",
            "let everybody read the clamped tensor, or compute the layer twice: a clamp that alone reads a layer is "
            "fused into it"
            if clamp
            else "bring both to one range before they meet (a batch norm, a clamp), or name the layers that make the "
            "wider one in keep_float",
            {"low": seen.minimum, "high": seen.maximum, "steps": steps},
        )


def _narrow_results(scheme: Scheme, statistics: Statistics) -> Iterator[NumericFinding]:
    """Results of layers too narrow for the requantization, so that their scale had to be raised."""
    groups = _groups(scheme)
    for operation in scheme.plan.operations:
        output = operation.output
        seen, scale = statistics.of(output), scheme.affine(output).scale
        width = seen.maximum - seen.minimum
        if operation.kind == "layer" and len(groups[scheme.plan.leader[output]]) == 1 and 0 < width < FEW_STEPS * scale:
            yield _finding(
                "narrow-result",
                operation.node,
                f"{_called(operation.node)} gives {seen.minimum:.3g} to {seen.maximum:.3g}, next to nothing beside "
                f"the products that it sums up: integer kernels leave it {width / scale:.0f} of 255 steps",
                "leave out the layer if its result does not matter, or name it in keep_float",
                {"low": seen.minimum, "high": seen.maximum, "steps": width / scale},
            )


def _weights(graph: GraphModule, scheme: Scheme, statistics: Statistics) -> Iterator[NumericFinding]:
    for operation in scheme.plan.operations:
        if operation.kind == "layer":
            layer, scales = operation.node, scheme.weights[operation.node]
            weight = constant(graph, layer.args[1])  # type: ignore[arg-type]  # a layer of the plan has constant weights
            channels = weight.transpose(0, output_axis(layer)).flatten(1).abs()
            yield from [*_uneven_weights(layer, channels, scales)] or _outlying_weights(layer, channels, scales)
            yield from _wide_biases(operation, channels, scheme, statistics.of(operation.output))


def _uneven_weights(layer: Node, channels: torch.Tensor, scales: torch.Tensor) -> Iterator[NumericFinding]:
    """Channels of very different size under one scale for the whole weight."""
    largest = channels.amax(dim=1)
    alive = largest[largest > 0]
    if scales.numel() > 1 or len(alive) < 2:  # noqa: PLR2004  # there is nothing to compare one channel with
        return
    starved = int((alive < VERY_FEW_STEPS * scales).sum())
    if starved > _MANY_CHANNELS * len(alive):
        grouped = layer.target in TRANSPOSED
        yield _finding(
            "uneven-weights",
            layer,
            f"{starved} of {len(alive)} channels of {_called(layer)} use less than {VERY_FEW_STEPS} of 127 steps: "
            "the whole weight has a single scale",
            "XNNPACK has a single scale for a transposed convolution in groups: +equalize, or keep_float"
            if grouped
            else "a scale for each channel (+per-channel), or +equalize",
            {"starved": starved, "channels": len(alive), "ratio": float(alive.max() / alive.min())},
        )


def _outlying_weights(layer: Node, channels: torch.Tensor, scales: torch.Tensor) -> Iterator[NumericFinding]:
    """A few weights so large that nearly all others share a few steps."""
    integers = (channels / scales.reshape(-1, 1)).flatten()
    integers = integers[integers > 0]
    if not integers.numel():
        return
    beyond = int(_TAIL * integers.numel())
    bulk = float(integers.sort(descending=True).values[beyond])
    top = float(integers.max())
    if bulk < FEW_STEPS and top > WEIGHT_LIMIT / _RAISED:
        yield _finding(
            "outlying-weights",
            layer,
            f"99.9 % of the weights of {_called(layer)} use {bulk:.0f} of 127 steps: a few weights are "
            f"{top / bulk:.0f} times as large",
            "a scale for each channel (+per-channel) if it has a single one, else +adaround, int8-qat, or keep_float",
            {"steps": bulk, "ratio": top / bulk},
        )


def _wide_biases(
    operation: Operation, channels: torch.Tensor, scheme: Scheme, seen: TensorStatistics
) -> Iterator[NumericFinding]:
    """Biases that int32 would not hold in units of weights so small, where raising their scale is felt.

    The error of a sum of products is about half a weight's step times the
    input's width times the root of the number of products.
    """
    layer, scales = operation.node, scheme.weights[operation.node]
    silent = _silent(seen, len(channels)) if scales.numel() > 1 else torch.tensor([False])
    largest = channels.amax(dim=1) if scales.numel() > 1 else channels.amax().reshape(1)
    raised = (largest > 0) & (scales * WEIGHT_LIMIT > _RAISED * largest)
    width = _INT8_STEPS * scheme.affine(operation.inputs[0]).scale
    error = scales * width * channels.shape[1] ** 0.5 / 2
    felt = raised & (error > scheme.affine(operation.output).scale) & ~silent
    if bool(felt.any()):
        steps = float((largest / scales)[felt].min())
        yield _finding(
            "wide-bias",
            layer,
            f"{int(felt.sum())} of {len(largest)} scales of {_called(layer)} were raised, as int32 would not hold "
            f"the bias in units of weights so small: {steps:.2g} of 127 steps are left for the weights",
            "a channel that is nearly its bias alone can be left out; a scale for each channel (+per-channel) keeps it "
            "from hurting others",
            {"scales": int(felt.sum()), "steps": steps},
        )


def _dead_channels(graph: GraphModule, scheme: Scheme, statistics: Statistics) -> Iterator[NumericFinding]:
    """Output channels without a weight, or without a single value other than 0 in all of the calibration."""
    for operation in scheme.plan.operations:
        if operation.kind != "layer":
            continue
        layer = operation.node
        weight = constant(graph, layer.args[1])  # type: ignore[arg-type]  # a layer of the plan has constant weights
        largest = weight.transpose(0, output_axis(layer)).flatten(1).abs().amax(dim=1)
        empty = int((largest == 0).sum())
        silent = int(_silent(statistics.of(operation.output), len(largest)).sum())
        if empty > _MANY_DEAD * len(largest):
            yield _finding(
                "dead-channels",
                layer,
                f"{empty} of {len(largest)} output channels of {_called(layer)} have no weight but 0",
                "leave them out of the model: they cost time and give nothing but their bias",
                {"without_weight": empty, "channels": len(largest)},
            )
        elif silent > _MANY_DEAD * len(largest):
            yield _finding(
                "dead-channels",
                layer,
                f"{silent} of {len(largest)} channels of {_called(layer)} were 0 for every calibration sample",
                "if they are alive on real data, calibrate with samples more like it; if not, leave them out",
                {"silent": silent, "channels": len(largest)},
            )


def _silent(seen: TensorStatistics, channels: int) -> torch.Tensor:
    """Which channels were always 0; none can be told of with few samples, or if other channels were watched."""
    if seen.channel_maximum is None or seen.channel_minimum is None or seen.samples < _ENOUGH_SAMPLES:
        return torch.zeros(channels, dtype=torch.bool)
    silent = (seen.channel_maximum == 0) & (seen.channel_minimum == 0)
    return silent if len(silent) == channels else torch.zeros(channels, dtype=torch.bool)


def _saturating_products(graph: GraphModule, scheme: Scheme, statistics: Statistics) -> list[NumericFinding]:
    """One finding for all layers whose products of uint8 by int8 can leave int16 where two of them are summed.

    vpmaddubsw multiplies neighbouring pairs and cuts their sum at 32,767.
    Neighbours are input channels at one place of the kernel; ONNX Runtime's
    kernel for as many groups as outputs widens first and is exact.
    """
    found: dict[Node, tuple[int, int]] = {}
    for operation in scheme.plan.operations:
        layer = operation.node
        if operation.kind != "layer" or layer.target in TRANSPOSED:
            continue
        weight = constant(graph, layer.args[1])  # type: ignore[arg-type]  # a layer of the plan has constant weights
        if layer.target in CONVOLUTIONS and layer.args[6:7] == (len(weight),):  # groups come seventh
            continue
        integers = scheme.rounded(layer, weight) / scheme.weight_scale(layer, weight)
        count, total = _pairs_beyond_int16(integers, _largest_operands(operation.inputs[0], scheme, statistics))
        if count:
            found[layer] = count, total
    if not found:
        return []
    worst = max(found, key=lambda layer: found[layer][0] / found[layer][1])
    pairs, total = (sum(column) for column in zip(*found.values(), strict=True))
    return [
        _finding(
            "saturating-products",
            worst,
            f"{pairs:,} of {total:,} pairs of weights in {len(found)} layers, most of all in {_called(worst)}, can sum "
            "up beyond int16 in ONNX Runtime's uint8 by int8 kernels on an x86 processor without VNNI",
            'set the session option "session.x64quantprecision" to "1" in the app, which is exact and slower; '
            "the .pte and processors with VNNI are not affected",
            {"pairs": pairs, "of": total, "layers": len(found)},
        )
    ]


def _largest_operands(tensor: Node, scheme: Scheme, statistics: Statistics) -> torch.Tensor:
    """The largest uint8 that calibration put into each channel of a tensor, or of all, shape (channels,) or (1,)."""
    seen, affine = statistics.of(tensor), scheme.affine(tensor)
    highest = torch.tensor([seen.maximum]) if seen.channel_maximum is None else seen.channel_maximum
    integers = torch.round(highest / affine.scale) + affine.zero_point
    return integers.clamp(LOWEST, HIGHEST) + _UINT8_OFFSET


def _pairs_beyond_int16(integers: torch.Tensor, operands: torch.Tensor) -> tuple[int, int]:
    """How many neighbours of a weight's integers, (outputs, inputs, *kernel), sum up beyond int16, and of how many."""
    outputs, inputs = integers.shape[:2]
    if len(operands) != inputs:  # in groups, or of another rank than the weight
        operands = operands.max().reshape(1).expand(inputs)
    products = integers.flatten(2) if integers.dim() > 2 else integers.unsqueeze(2)  # noqa: PLR2004  # no kernel
    products = (products * operands.reshape(1, -1, 1)).transpose(1, 2).reshape(outputs, -1)
    products = torch.nn.functional.pad(products, (0, products.shape[1] % 2))
    pairs = products.reshape(outputs, -1, 2)
    beyond = (pairs.clamp(min=0).sum(2) > _INT16) | (pairs.clamp(max=0).sum(2) < -_INT16 - 1)
    return int(beyond.sum()), beyond.numel()


def _groups(scheme: Scheme) -> dict[Node, list[Node]]:
    """The tensors that share a scale, by their leader."""
    groups = defaultdict(list)
    for tensor, leader in scheme.plan.leader.items():
        groups[leader].append(tensor)
    return groups


def _maker(scheme: Scheme, tensor: Node) -> Node:
    """What a person would look for: the layer in front of a clamp that belongs to it, else the tensor's own node."""
    return next((one.node for one in scheme.plan.operations if one.output is tensor), tensor)


def _called(node: Node) -> str:
    module = module_of(node)
    return f"{module} ({node.name})" if module else node.name


def _finding(code: str, node: Node, sentence: str, remedy: str, numbers: dict[str, float]) -> NumericFinding:
    return NumericFinding(
        code=code,
        layer=module_of(node) or node.name,
        source=source_of(node),
        sentence=sentence,
        remedy=remedy,
        numbers={name: float(value) for name, value in numbers.items()},
    )
