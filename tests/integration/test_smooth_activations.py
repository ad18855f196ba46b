"""Hard-swish, SiLU, GELU, sigmoid and their like: in int8 between int8, by any spelling, at the range that matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from quantize_models import IMAGE, lowered, outputs, quantized, reference, samples, settled, sqnr_db
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from edgeq.host import HostRuntime
from edgeq.lower.executorch_watch import Watched
from edgeq.lower.xnnpack import to_edge_transform_and_lower
from edgeq.quantize.capture import capture
from edgeq.quantize.plan import LAYERS
from edgeq.quantize.rewrite import simplify
from edgeq.quantize.saturation import useful_bounds
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch.fx import GraphModule, Node

Function = "Callable[[torch.Tensor], torch.Tensor]"

NEAR_FLOAT_DB = 30.0
ALIKE_DB = 34.0
"""Where a sum lies between two integers the runtimes may differ by a step."""

_ATEN = torch.ops.aten
_QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
_DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default

TABLES: dict[str, Function] = {
    "hardswish": functional.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "leaky relu": lambda x: functional.leaky_relu(x, 0.1),
    "elu": lambda x: functional.elu(x, 1.0),
}


def affine(low: float, high: float) -> tuple[float, int]:
    scale = float(np.float32((high - low) / 255))
    return scale, round(-128 - low / scale)


def through_int8(x: torch.Tensor, numbers: tuple[float, int]) -> torch.Tensor:
    limits = (-128, 127, torch.int8)
    return _DEQUANTIZE(_QUANTIZE(x, *numbers, *limits), *numbers, *limits)


class Tables(nn.Module):
    """Every function between tensors of int8."""

    read = affine(-4.3, 5.7)
    given = (torch.arange(-128, 128).float() - read[1]) * read[0]

    def __init__(self) -> None:
        super().__init__()
        self.stored = [
            affine(min(0.0, float(f(self.given).min())), float(f(self.given).max())) for f in TABLES.values()
        ]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [
            through_int8(function(through_int8(x, self.read)), stored)
            for function, stored in zip(TABLES.values(), self.stored, strict=True)
        ]


def test_the_runtime_gives_the_nearest_integer_for_each_of_the_256(tmp_path: Path) -> None:
    module = Tables()
    x = module.given.reshape(1, 4, 8, 8)
    with quietly():
        edge = to_edge_transform_and_lower(torch.export.export(module, (x,)), partitioner=[Watched().partitioner()])
        path = tmp_path / "tables.pte"
        path.write_bytes(edge.to_executorch().buffer)

    got = HostRuntime(path, "pte").run((x.numpy(),))

    for name, result, wanted, (scale, _) in zip(TABLES, got, module(x), module.stored, strict=True):
        steps = np.abs(result - wanted.numpy()) / scale
        assert steps.max() <= (1.01 if name == "leaky relu" else 0.01), name  # its kernel has a slope of eight bits


class Mobile(nn.Module):
    """The inverted bottleneck of a MobileNetV3, or with SiLU and sigmoid that of an EfficientNet."""

    def __init__(self, activation: type[nn.Module], gate: type[nn.Module]) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 16, 1, bias=False), nn.BatchNorm2d(16), activation())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), activation())
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1), gate()
        )
        self.project = nn.Conv2d(16, 3, 1)
        self.head = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(self.expand(x))
        return self.head(self.project(y * self.squeeze(y)).mean((2, 3)))


class Gated(nn.Module):
    """The gated unit of WaveNet-like audio nets."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv1d(4, 8, 3, padding=1)
        self.gate = nn.Conv1d(4, 8, 3, padding=1)
        self.head = nn.Conv1d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.filter(x)) * torch.sigmoid(self.gate(x)))


class Scaled(nn.Module):
    """The end of a ConvNeXt block: GELU, a linear layer and its layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Linear(6, 24)
        self.narrow = nn.Linear(24, 6)
        self.gamma = nn.Parameter(torch.linspace(0.1, 2.0, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gamma * self.narrow(functional.gelu(self.widen(x)))


@pytest.mark.parametrize(
    ("make", "shape", "float_in_onnx"),
    [
        (lambda: Mobile(nn.Hardswish, nn.Hardsigmoid), IMAGE, set()),
        (lambda: Mobile(nn.SiLU, nn.Sigmoid), IMAGE, set()),
        (Gated, (1, 4, 32), {"Tanh"}),
        (Scaled, (1, 5, 6), {"Gelu"}),
    ],
    ids=["MobileNetV3", "EfficientNet", "gated unit", "ConvNeXt"],
)
def test_a_block_is_one_partition_of_int8_near_to_float_and_alike_in_both_runtimes(
    make: Callable[[], nn.Module], shape: tuple[int, ...], float_in_onnx: set[str], tmp_path: Path
) -> None:
    torch.manual_seed(7)
    module = settled(make())
    given = samples(shape)
    program = quantized(module, given)

    pte, runtime = lowered(program, "pte", tmp_path)
    in_executorch = outputs(runtime, given)
    assert (pte.partitions, pte.int8_mac_share) == (1, 1.0)
    assert pte.undelegated == ()
    assert sqnr_db(reference(module, given), in_executorch) > NEAR_FLOAT_DB
    for target in ("rpi4", "host"):  # int8 and uint8 activations
        onnx, runtime = lowered(program, "onnx", tmp_path, target)
        assert onnx.int8_mac_share == 1.0
        assert {row.op for row in onnx.undelegated} <= float_in_onnx, target
        assert sqnr_db(in_executorch, outputs(runtime, given)) > ALIKE_DB, target


class After(nn.Module):
    """A function of what a convolution gives."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.layer(x))


def simplified(module: nn.Module, x: torch.Tensor) -> GraphModule:
    graph = capture("small", module, (x,))
    simplify(graph)
    with torch.no_grad():
        torch.testing.assert_close(tree_leaves(graph(x)), tree_leaves(module(x)), rtol=1e-5, atol=1e-5)
    return graph


def after_the_layer(function: Function) -> tuple[Node, list[str]]:
    """The layer in the simplified graph, and the operators behind it."""
    torch.manual_seed(7)
    graph = simplified(After(function).eval(), 3 * torch.randn(1, 3, 8, 8))
    called = [node for node in graph.graph.nodes if node.op == "call_function"]
    layer = next(node for node in called if node.target in LAYERS)
    return layer, [node.target.__name__.split(".")[0] for node in called if node is not layer]


SPELLINGS: dict[str, tuple[Function, list[str]]] = {
    "hard-swish": (functional.hardswish, ["hardswish"]),
    "hard-swish, product first": (lambda x: x * functional.relu6(x + 3) / 6, ["hardswish"]),
    "hard-swish, gate first": (lambda x: (x + 3).clamp(0, 6).div(6).mul(x), ["hardswish"]),
    "hard-swish of a hard-sigmoid": (lambda x: x * functional.hardsigmoid(x), ["hardswish"]),
    "hard-sigmoid": (functional.hardsigmoid, ["hardtanh"]),
    "hard-sigmoid of relu6": (lambda x: functional.relu6(x + 3) * (1 / 6), ["hardtanh"]),
    "gelu of erf": (lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), ["gelu"]),
    "gelu of tanh": (
        lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))), ["gelu"],
    ),
    "silu": (functional.silu, ["sigmoid", "mul"]),
    "selu": (functional.selu, ["elu", "mul"]),
    "prelu with one slope": (nn.PReLU(), ["leaky_relu"]),
    "something else": (lambda x: x * functional.relu6(x + 2.9) / 6, ["add", "hardtanh", "mul", "div"]),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_activation_by_any_spelling_has_one_form_and_the_same_values(spelling: str) -> None:
    function, wanted = SPELLINGS[spelling]

    assert after_the_layer(function)[1] == wanted


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [
        (functional.hardswish, -3.02, np.inf),
        (lambda x: x * functional.relu6(x + 3) / 6, -3.02, np.inf),
        (functional.silu, -8.5, np.inf),
        (functional.gelu, -3.3, np.inf),
        (lambda x: torch.sigmoid(x.flatten(2).transpose(1, 2)), -7.1, 7.1),
        (torch.tanh, -3.3, 3.3),
        (lambda x: functional.hardswish(x) + torch.tanh(x), -3.3, np.inf),
        (lambda x: functional.leaky_relu(x, 0.01), -np.inf, np.inf),
        (lambda x: functional.hardswish(x) + x.mean((2, 3), keepdim=True), -np.inf, np.inf),
        (lambda x: (functional.hardswish(x), x)[1], -np.inf, np.inf),
    ],
)
def test_a_tensor_may_saturate_where_all_that_is_seen_of_it_does(function: Function, low: float, high: float) -> None:
    layer, _ = after_the_layer(function)
    found = useful_bounds(layer)

    assert low <= found[0] <= low + 0.5 if np.isfinite(low) else found[0] == low
    assert high - 0.5 <= found[1] <= high if np.isfinite(high) else found[1] == high


@pytest.mark.parametrize(
    "function", [functional.hardswish, functional.silu, functional.gelu, functional.elu, torch.sigmoid, torch.tanh]
)
def test_saturating_there_changes_the_result_by_less_than_half_a_step(function: Function) -> None:
    x = torch.linspace(-30, 30, 6001)
    spanned = function(torch.ones(1)) - function(-torch.ones(1))

    bounds = useful_bounds(after_the_layer(function)[0])

    assert float((function(x) - function(x.clamp(*bounds))).abs().max()) <= 1.01 * 2**-9 * float(spanned)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.PReLU(8), nn.Linear(8, 4)),
        nn.Sequential(nn.Conv1d(3, 8, 3), nn.PReLU(8), nn.Conv1d(8, 4, 1), nn.Flatten()),
    ],
    ids=["rows", "signals"],
)
@pytest.mark.parametrize("recipe", ["fp32", "int8-static"])
def test_a_slope_for_each_channel_works_on_what_is_no_image(module: nn.Module, recipe: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    given = samples((1, 3, 8), count=16)
    for part in module:
        if isinstance(part, nn.PReLU):
            part.weight.data = torch.linspace(-0.5, 0.9, 8)
    program = quantized(settled(module), given, recipe)

    for form in ("pte", "onnx"):
        _, runtime = lowered(program, form, tmp_path)
        assert sqnr_db(reference(module, given), outputs(runtime, given)) > 28.0


def test_what_an_activation_makes_equal_does_not_take_int8_steps() -> None:
    torch.manual_seed(7)
    module = settled(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Conv2d(8, 4, 1)))
    module[0].bias.data[0] = -40.0
    program = quantized(module, samples(IMAGE))

    stored = [node for node in program.program.graph.nodes if node.target == _QUANTIZE][1]
    _, scale, zero_point, *_ = stored.args

    assert -3.1 < (-128 - zero_point) * scale < -2.9


LAYERS_AND_CONSTANTS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(3, 4, 3),
    "convolution without bias": lambda: nn.Conv2d(3, 4, 3, padding="same", bias=False),
    "transposed": lambda: nn.ConvTranspose2d(3, 4, 2, stride=2),
    "linear": lambda: nn.Linear(8, 4),
    "linear without bias": lambda: nn.Linear(8, 4, bias=False),
}


class Constants(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        shape = (4,) if isinstance(layer, nn.Linear) else (1, 4, 1, 1)
        self.factor = nn.Parameter(torch.tensor([0.5, -2.0, 3.0, 0.0]).reshape(shape))
        self.shift = nn.Parameter(torch.tensor([0.1, 0.2, -0.3, 4.0]).reshape(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.factor * self.layer(x) / 3 - 1 + self.shift) * 2


@pytest.mark.parametrize("layer", LAYERS_AND_CONSTANTS)
def test_a_layer_takes_in_the_constants_behind_it(layer: str) -> None:
    torch.manual_seed(7)

    graph = simplified(Constants(LAYERS_AND_CONSTANTS[layer]()).eval(), torch.randn(1, 3, 8, 8))

    assert len([node for node in graph.graph.nodes if node.op == "call_function"]) == 1


def test_a_layer_keeps_its_weights_where_others_read_it_or_a_constant_is_not_one_for_each_channel() -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)
            self.places = nn.Parameter(torch.randn(1, 1, 8, 8))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            y, z = self.layer(x), self.layer(x + 1)
            return y * 2.0 + y.relu(), z * self.places

    torch.manual_seed(7)
    module, x = Read().eval(), torch.randn(1, 3, 8, 8)
    graph = capture("small", module, (x,))
    simplify(graph)

    assert [node.target for node in graph.graph.nodes].count(_ATEN.mul.Tensor) == 2
    for got, wanted in zip(graph(x), module(x), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_elu_goes_to_xnnpack_and_its_relatives_with_scales_of_their_own_stay_right(tmp_path: Path) -> None:
    class Curves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.elu(x) + functional.selu(x) + functional.celu(x, 2.0)

    given = samples((1, 4, 6, 6))

    coverage, runtime = lowered(quantized(Curves(), given, "fp32"), "pte", tmp_path)

    np.testing.assert_allclose(outputs(runtime, given), reference(Curves(), given), rtol=1e-4, atol=1e-5)
    assert len([row for row in coverage.undelegated if "elu" in row.op]) <= 1
