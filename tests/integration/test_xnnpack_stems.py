"""The first convolution of a .pte reads rows of a thin image as channels, and gives the same integers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from quantize_models import lowered, outputs, quantized, samples
from torch import nn

from edgeq.lower.xnnpack_stems import read_rows_as_channels
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from pathlib import Path

    from torch.export import ExportedProgram


def _network(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(layer, nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(3, 8, 3, 2, 1), (16, 20)),
        (nn.Conv2d(3, 8, 7, 2, 3, bias=False), (16, 16)),
        (nn.Conv2d(3, 8, 3, 2), (16, 17)),
        (nn.Conv2d(3, 8, (5, 2), (3, 1), (2, 0)), (16, 16)),
        (nn.Conv2d(4, 8, 3, 2, 1), (17, 16)),
        (nn.Conv2d(1, 8, 3, 2, 1), (16, 16)),
        (nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2)), (16, 16)),
        (nn.Sequential(nn.ZeroPad2d((2, 1, 1, 2)), nn.Conv2d(3, 8, 5, 2, 1)), (16, 18)),
    ],
    ids=["3x3", "7x7", "no padding", "unequal strides", "a row and a half", "grey", "same as TensorFlow", "uneven"],
)
def test_rows_as_channels_give_the_same_integers(layer: nn.Module, size: tuple[int, int]) -> None:
    channels = next(layer.parameters()).shape[1]
    given = samples((2, channels, *size))
    program = quantized(_network(layer), given)
    with quietly():
        before, after, again = (program.copy_to_lower() for _ in range(3))
    assert read_rows_as_channels(after) == 1
    assert _stem_strides(after)[0] == 1

    for inputs in given:
        # Floats stand for the integers here, and are summed in another order: now and then a sum is rounded otherwise.
        wanted = before.module()(*inputs)
        apart = (after.module()(*inputs) - wanted).abs()
        step = wanted.unique().diff().min()
        assert apart.max() <= 1.01 * step
        assert (apart > step / 2).float().mean() < 0.01
    assert read_rows_as_channels(again) == 1  # the tensors that all copies share are as they were


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(8, 8, 3, 2, 1), (16, 16)),
        (nn.Conv2d(3, 8, 3, 1, 1), (16, 16)),
        (nn.Conv2d(3, 8, 3, 2, 1, dilation=2), (16, 16)),
        (nn.Conv2d(4, 8, 3, 2, 1, groups=2), (16, 16)),
        (nn.Conv2d(3, 8, 2, 2), (17, 16)),
    ],
    ids=["channels enough", "no stride", "dilated", "groups", "rows that nobody reads"],
)
def test_a_convolution_that_gains_nothing_by_rows_stays_as_it_is(layer: nn.Conv2d, size: tuple[int, int]) -> None:
    program = quantized(_network(layer), samples((1, layer.in_channels, *size)))
    with quietly():
        copied = program.copy_to_lower()
    assert read_rows_as_channels(copied) == 0


def test_a_weight_or_an_image_that_others_read_too_stays_as_it_is() -> None:
    class Shared(nn.Module):
        def __init__(self, *, weight: bool) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(3, 8, 3, 2, 1)
            if weight:
                self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x) + self.second(x)

    given = samples((1, 3, 16, 16))
    for weight in (True, False):
        torch.manual_seed(0)
        program = quantized(Shared(weight=weight).eval(), given)
        with quietly():
            before, after = program.copy_to_lower(), program.copy_to_lower()
        read_rows_as_channels(after)
        torch.testing.assert_close(after.module()(*given[0]), before.module()(*given[0]), rtol=0, atol=0)


def test_the_file_keeps_one_partition_all_in_int8_and_the_layer_its_name(tmp_path: Path) -> None:
    layer = nn.Conv2d(3, 8, 7, 2, 3)
    given = samples((1, 3, 32, 32))
    program = quantized(_network(copy.deepcopy(layer)), given)
    with quietly():
        plain = program.copy_to_lower()
    coverage, runtime = lowered(program, "pte", tmp_path)

    assert (coverage.partitions, coverage.int8_mac_share, coverage.undelegated) == (1, 1, ())
    (stem,) = (node for node in coverage.nodes.nodes if node.macs and node.module == "0")
    assert stem.runs == "int8"
    with torch.no_grad():
        expected = np.concatenate([plain.module()(*inputs).numpy().ravel() for inputs in given])
    assert abs(outputs(runtime, given).ravel() - expected).max() <= abs(expected).max() / 100  # a step


def _stem_strides(program: ExportedProgram) -> list[int]:
    layers = [node for node in program.graph.nodes if node.target == torch.ops.aten.conv2d.default]
    return list(layers[0].args[3])
