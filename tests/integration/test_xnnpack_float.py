"""What XNNPACK computes faster in float on x86 is computed in float there, and in int8 on ARM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from quantize_models import lowered, outputs, quantized, reference, samples, settled, sqnr_db
from torch import nn

from edgeq.lower.xnnpack_float import filter_in_float
from edgeq.quiet import quietly

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (1, 3, 16, 16)


class Gated(nn.Module):
    """A block of a MobileNetV3: a depthwise filter, hard-swish, a gate for each channel."""

    def __init__(self, kernel: int, activation: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.filter = nn.Sequential(
            nn.Conv2d(16, 16, kernel, padding=kernel // 2, groups=16, bias=False), nn.BatchNorm2d(16), activation
        )
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
        self.head = nn.Conv2d(16, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.filter(self.stem(x))
        return self.head(x * self.gate(x))


@pytest.mark.parametrize(("kernel", "target", "in_int8"), [(5, "host", False), (3, "host", True), (5, "rpi4", True)])
def test_a_large_depthwise_filter_is_computed_in_float_on_x86_alone(
    kernel: int, target: str, in_int8: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module, given = settled(Gated(kernel, nn.Hardswish())), samples(SHAPE)
    coverage, runtime = lowered(quantized(module, given), "pte", tmp_path, target)

    assert coverage.partitions == 1
    assert coverage.delegated_mac_share == 1
    assert (coverage.int8_mac_share == 1) is in_int8
    reasons = {row.reason.partition(":")[0] for row in coverage.undelegated if row.mac_share}
    assert reasons == (set() if in_int8 else {"float-faster"})
    assert sqnr_db(reference(module, given), outputs(runtime, given)) > 30


def test_a_filter_in_float_gives_what_its_integers_give() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.Conv2d(8, 4, 1))
    given = samples(SHAPE)
    program = quantized(network.eval(), given)
    with quietly():
        before, after, again = (program.copy_to_lower() for _ in range(3))
    assert filter_in_float(after) == 1

    for inputs in given:
        torch.testing.assert_close(after.module()(*inputs), before.module()(*inputs), rtol=0, atol=1e-5)
    assert filter_in_float(again) == 1  # the tensors that all copies share are as they were


def test_a_filter_whose_weight_two_layers_share_stays_in_int8() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filter = nn.Conv2d(3, 3, 5, padding=2, groups=3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.filter(torch.relu(self.filter(x)))

    torch.manual_seed(0)
    program = quantized(Twice().eval(), samples(SHAPE))
    with quietly():
        copied = program.copy_to_lower()
    assert filter_in_float(copied) == 0
