"""Every pattern that must run in int8 does, in one partition, near to float, and alike in both runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from quantize_models import IMAGE, lowered, outputs, quantized, reference, samples, settled, sqnr_db
from torch import nn
from torch.nn import functional

from edgeq.host import HostRuntime
from edgeq.lower.xnnpack import XnnpackPartitioner, to_edge_transform_and_lower
from edgeq.quantize.pt2e import convert_pt2e, prepare_pt2e
from edgeq.quiet import quietly

with quietly():
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NEAR_FLOAT_DB = 30.0
ALIKE_DB = 60.0
"""Far above what one step of int8 anywhere would leave; equal outputs are infinitely alike."""


class Clamped(nn.Module):
    """A convolution, a clamp in some spelling, and a layer that reads it."""

    def __init__(self, clamp: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 1)
        self.clamp = clamp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.clamp(self.first(x)))


class Residual(nn.Module):
    def __init__(self, *, relu: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8))
        self.head = nn.Conv2d(8, 4, 1)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.branch(x)
        y += x
        return self.head(torch.relu_(y) if self.relu else y)


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(3, 4, 1)
        self.one = nn.Conv2d(4, 6, 1)
        self.three = nn.Conv2d(4, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.squeeze(x))
        x = torch.cat([functional.relu(self.one(x)), self.three(x), x], dim=1)
        return self.head(self.pool(x))


class Pooled(nn.Module):
    def __init__(self, pool: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.pool = pool
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.flatten(self.pool(functional.relu6(self.layer(x))), 1))


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding="same")
        self.branch = nn.Conv2d(4, 4, 2, padding="same")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, changed = self.stem(x).chunk(2, 1)
        x = torch.cat((kept, self.branch(changed)), 1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        return self.branch(x[:, 2:6])


class PaddedUnevenly(nn.Module):
    """As TensorFlow pads: one row more below than above."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2)
        self.second = nn.Conv2d(8, 8, 3, stride=2, groups=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.first(functional.pad(x, (0, 1, 0, 1))))
        return self.second(functional.pad(x, (0, 1, 0, 1)))


class NormBeforeLayer(nn.Module):
    """A convolution that a batch norm and somebody else read, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.layer = nn.Conv2d(8, 4, 3, padding=1)
        self.head = nn.Conv2d(12, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(torch.cat([x, self.layer(functional.relu(self.norm(x)))], 1))


class Shared(nn.Module):
    """One weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(functional.relu(self.layer(x)))


class Products(nn.Module):
    """Linear layers in the words of linear algebra."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(6, 8))
        self.second = nn.Parameter(torch.randn(8, 4))
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, functional.relu(x @ self.first), self.second)


class Signal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(1, 8, 9, stride=2, padding=4), nn.BatchNorm1d(8), nn.ReLU())
        self.second = nn.Conv1d(8, 8, 5, padding="same", groups=8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool1d(self.first(x), 2)
        return self.head(self.second(x).mean(-1))


CLAMPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "relu6 in place": nn.ReLU6(inplace=True),
    "functional relu6": functional.relu6,
    "hardtanh": nn.Hardtanh(-0.5, 0.7),
    "clamp": lambda x: x.clamp(-0.25, 1.0),
    "clamp in place": lambda x: x.clamp_(min=0.0),
    "one-sided clamp": lambda x: torch.clamp_max(x, 0.3),
}

POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "adaptive": nn.AdaptiveAvgPool2d(1),
    "mean": lambda x: x.mean((2, 3)),
    "mean with negative dims": lambda x: x.mean([-1, -2], keepdim=True),
    "window of everything": lambda x: functional.avg_pool2d(x, 8),
}

PATTERNS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{f"convolution and {name}": (lambda clamp=clamp: Clamped(clamp), IMAGE) for name, clamp in CLAMPS.items()},
    **{f"global pooling by {name}": (lambda pool=pool: Pooled(pool), IMAGE) for name, pool in POOLS.items()},
    "residual": (lambda: Residual(relu=False), IMAGE),
    "residual and relu": (lambda: Residual(relu=True), IMAGE),
    "concatenation and max pooling": (Concatenated, IMAGE),
    "split and channel shuffle": (Shuffled, IMAGE),
    "uneven padding": (PaddedUnevenly, IMAGE),
    "batch norm before a layer": (NormBeforeLayer, IMAGE),
    "linear layers with one weight": (Shared, (1, 6)),
    "linear layers of sequences": (Shared, (1, 5, 6)),
    "products with constant matrices": (Products, (1, 6)),
    "signal": (Signal, (1, 1, 64)),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_runs_in_int8_near_to_float_and_alike_in_both_runtimes(pattern: str, tmp_path: Path) -> None:
    make, shape = PATTERNS[pattern]
    torch.manual_seed(7)
    module = settled(make())
    given = samples(shape)
    program = quantized(module, given)

    got = {}
    for form in ("pte", "onnx"):
        coverage, runtime = lowered(program, form, tmp_path)
        got[form] = outputs(runtime, given)
        assert coverage.int8_mac_share == 1.0
        assert coverage.delegated_mac_share == 1.0
        assert coverage.partitions == 1
        if form == "pte":
            # ExecuTorch copies a transposed tensor as float; every operator that computes is int8.
            assert [row for row in coverage.undelegated if "clone" not in row.op] == []

    assert sqnr_db(reference(module, given), got["pte"]) > NEAR_FLOAT_DB
    assert sqnr_db(got["pte"], got["onnx"]) > ALIKE_DB


def test_transposed_convolutions_run_in_int8_in_xnnpack_and_are_named_as_float_in_onnx(tmp_path: Path) -> None:
    torch.manual_seed(7)
    module = settled(
        nn.Sequential(
            nn.ConvTranspose2d(3, 6, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(6, 4, 3, padding=1, groups=2)
        )
    )
    given = samples(IMAGE)
    program = quantized(module, given)

    pte, runtime = lowered(program, "pte", tmp_path)
    assert (pte.int8_mac_share, pte.undelegated) == (1.0, ())
    assert sqnr_db(reference(module, given), outputs(runtime, given)) > NEAR_FLOAT_DB

    onnx, _ = lowered(program, "onnx", tmp_path)
    assert onnx.int8_mac_share == 0.0
    assert onnx.delegated_mac_share == 0.0
    assert sum(row.mac_share for row in onnx.undelegated) == pytest.approx(1.0)
    assert all(row.reason.startswith("unfused: ") for row in onnx.undelegated)


def stock_flow(module: nn.Module, given: list[tuple[torch.Tensor, ...]]) -> bytes:
    """What ExecuTorch's own quantizer and torchao make of the module, as its documentation says."""
    with quietly():
        graph = torch.export.export(module, given[0]).module()
        config = get_symmetric_quantization_config(is_per_channel=True)
        prepared = prepare_pt2e(graph, XNNPACKQuantizer().set_global(config))
        for inputs in given:
            prepared(*inputs)
        exported = torch.export.export(convert_pt2e(prepared), given[0])
        return to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch().buffer


def test_a_clamp_does_not_cost_the_precision_that_the_stock_flow_loses(tmp_path: Path) -> None:
    torch.manual_seed(7)
    module = settled(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU6(), nn.Conv2d(16, 4, 1)))
    module[0].weight.data *= 100.0  # most of what the convolution gives lies outside 0 to 6
    given = samples(IMAGE)
    expected = reference(module, given)

    stock = tmp_path / "stock.pte"
    stock.write_bytes(stock_flow(module, given))
    _, runtime = lowered(quantized(module, given), "pte", tmp_path)

    stock_db = sqnr_db(expected, outputs(HostRuntime(stock, "pte"), given))
    assert sqnr_db(expected, outputs(runtime, given)) > stock_db + 4.0


def test_a_batch_norm_is_not_folded_into_a_layer_that_others_read() -> None:
    torch.manual_seed(7)
    module = settled(NormBeforeLayer())
    given = samples(IMAGE)
    program = quantized(module, given)

    with torch.no_grad():
        simulated = np.stack([program.program.module()(*inputs).numpy().ravel() for inputs in given])

    assert sqnr_db(reference(module, given), simulated) > NEAR_FLOAT_DB


def test_a_single_odd_sample_does_not_take_the_resolution_of_all_others() -> None:
    torch.manual_seed(7)
    module = settled(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)))
    given = samples((1, 3, 4, 4), count=40)
    spoilt = [*given, (given[0][0].clone(),)]
    spoilt[-1][0][0, 0, 0, 0] = 200.0

    scales = [
        next(node.args[1] for node in quantized(module, data).program.graph.nodes if "quantize_per_tensor" in node.name)
        for data in (given, spoilt)
    ]

    assert scales[1] < 3 * scales[0]


@pytest.mark.parametrize("value", [0.0, 1.5, -3.0])
def test_constant_activations_and_dead_channels_are_quantized_exactly_enough(value: float, tmp_path: Path) -> None:
    module = settled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 2, 1)))
    nn.init.zeros_(module[0].weight)
    nn.init.constant_(module[0].bias, value)
    given = samples(IMAGE)

    for form in ("pte", "onnx"):
        _, runtime = lowered(quantized(module, given), form, tmp_path)
        np.testing.assert_allclose(outputs(runtime, given), reference(module, given), atol=0.02)


def test_a_bias_far_larger_than_its_weights_does_not_overflow(tmp_path: Path) -> None:
    torch.manual_seed(7)
    module = settled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    module[0].weight.data[0] *= 1e-12
    module[0].bias.data[0] = 5.0
    given = samples(IMAGE)

    _, runtime = lowered(quantized(module, given), "pte", tmp_path)

    assert sqnr_db(reference(module, given), outputs(runtime, given)) > NEAR_FLOAT_DB


def test_one_scale_for_each_weight_tensor_is_what_the_per_tensor_recipe_gives(tmp_path: Path) -> None:
    torch.manual_seed(7)
    module = settled(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    given = samples(IMAGE)
    program = quantized(module, given, "int8-static-per-tensor")

    assert not any("per_channel" in str(node.target) for node in program.program.graph.nodes)
    for form in ("pte", "onnx"):
        coverage, runtime = lowered(program, form, tmp_path)
        assert coverage.int8_mac_share == 1.0
        assert sqnr_db(reference(module, given), outputs(runtime, given)) > NEAR_FLOAT_DB


FLOAT_READERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "where": lambda y: torch.where(y > 0, y, 0.1 * y),
    "softplus": functional.softplus,
    "mish": functional.mish,
    "powers": lambda y: y**2 + y.abs().sqrt().cumsum(1),
    "largest": lambda y: y - y.max(1, keepdim=True)[0],
    "windows": lambda y: functional.unfold(y, 3, padding=1).reshape(1, 72, 16, 16)[:, ::9],
}


class ReadInFloat(nn.Module):
    """Operators without an int8 kernel, several of which read one image; that image is an output, too."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 3)
        self.function = function

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.first(x)
        between = self.function(y)
        return self.second(between), between, self.second(y), y


@pytest.mark.parametrize("function", FLOAT_READERS)
def test_several_float_operators_read_an_image_of_int8_as_the_layer_left_it(function: str, tmp_path: Path) -> None:
    given = samples(IMAGE)
    model = settled(ReadInFloat(FLOAT_READERS[function]))
    program = quantized(model, given)
    wanted = reference(model, given)

    pte, onnx = (lowered(program, form, tmp_path) for form in ("pte", "onnx"))

    assert pte[0].int8_mac_share == onnx[0].int8_mac_share == 1.0
    assert sqnr_db(wanted, outputs(pte[1], given)) >= NEAR_FLOAT_DB
    assert sqnr_db(outputs(onnx[1], given), outputs(pte[1], given)) >= ALIKE_DB
