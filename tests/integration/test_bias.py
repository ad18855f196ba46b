"""Bias correction, on networks whose means rounding shifts; each artifact in its own runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from quantize_models import IMAGE, dataset, lowered, outputs, quantized, reference, samples, sqnr_db
from torch import nn

from edgeq.model import Model
from edgeq.progress import SILENT
from edgeq.quantize import FloatGraph
from edgeq.quantize.attributes import constant
from edgeq.quantize.bias import _believable
from edgeq.quantize.static import settled
from edgeq.recipe import named

if TYPE_CHECKING:
    from pathlib import Path

FORMS = ("pte", "onnx")


class Depthwise(nn.Module):
    """Few weights a channel, so that their rounding errors do not cancel; behind a ReLU inputs have a mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first = nn.Conv2d(3, 32, 3)
        self.second = nn.Conv2d(32, 32, 3, groups=32, bias=False)
        self.last = nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


def background(count: int, seed: int) -> list[tuple[torch.Tensor, ...]]:
    """Pictures from -3 to 3 in one place and even elsewhere, with a value half-way between two of the 255 steps."""
    given = []
    for (values,) in samples(IMAGE, count=count, seed=seed):
        picture = torch.full(IMAGE, 20.49 * 6 / 255)
        picture[..., 4:9, 4:9] = values[..., 4:9, 4:9].clamp(-3.0, 3.0)
        picture[..., 4, 4], picture[..., 5, 5] = -3.0, 3.0
        given.append((picture,))
    return given


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recipe", ["int8-static+minmax", "int8-static+minmax+adaround"])
def test_an_even_background_that_rounds_to_one_side_does_not_shift_the_output(
    tmp_path: Path, form: str, recipe: str
) -> None:
    module = Depthwise().eval()
    fresh = background(32, seed=9)

    def sqnr(name: str) -> float:
        _, runtime = lowered(quantized(module, background(32, seed=1), name), form, tmp_path)
        return sqnr_db(reference(module, fresh), outputs(runtime, fresh))

    assert sqnr(recipe) > sqnr(f"{recipe}+no-bias-correction") + 3.0


def test_the_mean_of_every_channel_is_that_of_float(tmp_path: Path) -> None:
    module = Depthwise().eval()
    given = samples(IMAGE, count=16)

    def shift(recipe: str) -> float:
        _, runtime = lowered(quantized(module, given, recipe), "pte", tmp_path)
        error = outputs(runtime, given) - reference(module, given)
        return float((error.mean(axis=0) ** 2).sum() / (error**2).mean(axis=0).sum())

    assert shift("int8-static+per-tensor") < 0.1
    assert shift("int8-static+per-tensor+no-bias-correction") > 0.3


def test_a_layer_without_a_bias_gets_one_and_the_float_model_stays() -> None:
    module = Depthwise().eval()
    given = samples(IMAGE, count=4)
    source = FloatGraph(Model(name="small", module=module, example_inputs=given[0]), dataset(given), progress=SILENT)
    before = {name: tensor.clone() for name, tensor in source.graph.state_dict().items()}

    found = settled(source, named("int8-static"), progress=SILENT)

    biases = {layer.name: constant(found.graph, layer.args[2]) for layer in found.scheme.weights}
    assert [len(bias) for bias in biases.values()] == [32, 32, 8]
    assert module.second.bias is None
    assert all(torch.equal(before[name], tensor) for name, tensor in source.graph.state_dict().items())


def test_a_shift_that_may_be_chance_is_not_taken_back() -> None:
    generator = torch.Generator().manual_seed(0)
    chance = torch.randn(16, 1000, generator=generator)
    kept = _believable(chance).square().mean()
    assert kept < 0.5 * chance.mean(dim=0).square().mean()
    torch.testing.assert_close(_believable(chance + 10.0), (chance + 10.0).mean(dim=0), rtol=0.01, atol=0.0)


def test_what_differs_in_no_sample_is_taken_back_whole() -> None:
    assert torch.equal(_believable(torch.full((4, 3), 0.5)), torch.full((3,), 0.5))
    assert torch.equal(_believable(torch.zeros(4, 3)), torch.zeros(3))
