"""Cross-layer equalization, on networks whose channels were pulled apart without a change to what they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from quantize_models import dataset, lowered, outputs, quantized, reference, samples, sqnr_db
from torch import nn
from torch.nn import functional

from edgeq.model import Model
from edgeq.progress import SILENT
from edgeq.quantize import FloatGraph
from edgeq.quantize.equalize import equalize

if TYPE_CHECKING:
    from pathlib import Path

    from torch.fx import GraphModule

PICTURE = (1, 3, 16, 16)


class Separable(nn.Module):
    """Depthwise and pointwise convolutions, a shortcut, a pooled head; every channel scaled by ``octaves`` at most."""

    def __init__(self, octaves: float) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(3, 16, 3, padding=1),
                nn.Conv2d(16, 16, 3, padding=1, groups=16),
                nn.Conv2d(16, 24, 1),
                nn.Conv2d(24, 24, 3, padding=1, groups=24),
                nn.Conv2d(24, 24, 1),
                nn.Conv2d(24, 32, 1),
                nn.Linear(32, 10),
            ]
        )
        # What the fifth layer gives is added to what the third gives, so that they have their factors in common.
        exponents = [torch.rand(layer.weight.shape[0]) * 2 * octaves - octaves for layer in self.layers[:-1]]
        exponents[4] = exponents[2]
        with torch.no_grad():
            for layer, reader, exponent in zip(self.layers, self.layers[1:], exponents, strict=False):
                factors = torch.exp2(exponent)
                layer.weight *= factors.reshape(-1, *[1] * (layer.weight.dim() - 1))
                layer.bias *= factors
                depthwise = isinstance(reader, nn.Conv2d) and reader.groups > 1
                shape = [1] * reader.weight.dim()
                shape[0 if depthwise else 1] = -1
                reader.weight /= factors.reshape(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third, fourth, fifth, sixth, head = self.layers
        x = functional.relu(third(functional.relu(second(functional.relu(first(x))))))
        x = functional.relu(x + fifth(functional.relu(fourth(x))))
        x = functional.max_pool2d(functional.relu(sixth(x)), 2)
        return head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def equalized(module: nn.Module, given: list[tuple[torch.Tensor, ...]], **how: bool) -> tuple[GraphModule, int]:
    source = FloatGraph(
        Model(name="small", module=module.eval(), example_inputs=given[0]), dataset(given), progress=SILENT
    )
    graph = source.copy()
    return graph, equalize(graph, source.statistics(progress=SILENT), **how)


def sqnr(module: nn.Module, given: list[tuple[torch.Tensor, ...]], recipe: str, form: str, folder: Path) -> float:
    _, runtime = lowered(quantized(module, given, recipe), form, folder)
    fresh = samples(PICTURE, count=8, seed=2)
    return float(sqnr_db(reference(module, fresh), outputs(runtime, fresh)))


@pytest.mark.parametrize("form", ["pte", "onnx"])
def test_channels_far_apart_are_brought_together_and_int8_is_nearly_as_good_as_it_was(
    form: str, tmp_path: Path
) -> None:
    given = samples(PICTURE, count=16)
    even, wild = Separable(0.0).eval(), Separable(6.0).eval()
    np.testing.assert_allclose(reference(wild, given), reference(even, given), rtol=1e-4, atol=1e-5)

    best = sqnr(even, given, "int8-static", form, tmp_path)
    untouched = sqnr(wild, given, "int8-static+no-equalize+no-bias-correction", form, tmp_path)
    before = sqnr(wild, given, "int8-static+no-equalize", form, tmp_path)
    after = sqnr(wild, given, "int8-static+equalize", form, tmp_path)

    assert untouched < best - 30.0
    assert before < best - 10.0  # biases make up for the mean of what is lost, which is most of it here
    assert after > best - 3.0


def test_one_scale_for_a_whole_weight_tensor_is_enough_after_equalization(tmp_path: Path) -> None:
    given = samples(PICTURE, count=16)
    even, wild = Separable(0.0).eval(), Separable(4.0).eval()

    best = sqnr(even, given, "int8-static+per-tensor", "pte", tmp_path)
    before = sqnr(wild, given, "int8-static+per-tensor+no-equalize", "pte", tmp_path)
    after = sqnr(wild, given, "int8-static+per-tensor+equalize", "pte", tmp_path)

    assert before < best - 10.0
    assert after > best - 3.0


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_float_network_gives_what_it_gave(per_channel: bool) -> None:
    module = Separable(6.0)
    graph, changed = equalized(module, samples(PICTURE), per_channel=per_channel)

    assert changed == 5
    fresh = samples(PICTURE, count=4, seed=9)
    expected = reference(module, fresh)
    np.testing.assert_allclose(reference(graph, fresh), expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))


def test_around_a_relu6_nothing_is_scaled_as_it_would_cut_off_something_else() -> None:
    torch.manual_seed(4)
    module = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.ReLU6(), nn.Conv2d(12, 12, 3, groups=12), nn.ReLU(), nn.Conv2d(12, 2, 1)
    )
    graph, changed = equalized(module, samples(PICTURE))

    assert changed == 1
    larger = [(100 * sample[0],) for sample in samples(PICTURE)]
    np.testing.assert_allclose(reference(graph, larger), reference(module, larger), rtol=1e-4, atol=1e-4)


def test_channels_that_are_never_seen_or_never_read_do_no_harm() -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(6)
            self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
            with torch.no_grad():
                self.first.bias[0], self.first.weight[0] = -1.0, 0.0  # gives nothing
                self.second.weight[:, 0] = 500.0  # but weighs much
                self.second.weight[:, 1] = 0.0  # is not read
                self.first.bias[1] = 50.0  # but is large

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(functional.relu(self.first(x)))

    module, given = Dead().eval(), samples(PICTURE, count=8)
    graph, _ = equalized(module, given)
    np.testing.assert_allclose(reference(graph, given), reference(module, given), rtol=1e-4, atol=1e-4)

    def sqnr_of(recipe: str) -> float:
        program = quantized(module, given, recipe).program.module()
        return float(sqnr_db(reference(module, given), reference(program, given)))

    assert sqnr_of("int8-static+equalize") > sqnr_of("int8-static+no-equalize") + 10.0


def test_what_others_read_too_is_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.relu(self.first(x))
            return self.second(x) + functional.silu(x)

    assert equalized(Shared(), samples(PICTURE))[1] == 0
