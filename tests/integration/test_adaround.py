"""AdaRound, on layers whose inputs go together, so that the errors of their weights can cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from quantize_models import dataset, lowered, outputs, quantized, reference, sqnr_db
from torch import nn
from torch.nn import functional

from edgeq.model import Model
from edgeq.progress import SILENT
from edgeq.quantize import FloatGraph, adaround
from edgeq.quantize.adaround import round_adaptively
from edgeq.quantize.attributes import constant
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.scheme import settle
from edgeq.recipe import named

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

Inputs = list[tuple[torch.Tensor, ...]]


def correlated(shape: tuple[int, ...], *, count: int, seed: int) -> Inputs:
    """Samples with 48 channels along the second axis that are mixtures of six."""
    mixture = torch.randn(shape[1], 6, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        hidden = torch.randn(shape[0], 6, *shape[2:], generator=generator)
        noise = torch.randn(shape, generator=generator)
        found.append((torch.einsum("cm,nm...->nc...", mixture, hidden) + 0.05 * noise,))
    return found


class Coarse(nn.Module):
    """A layer each of whose outputs has one large weight, so that the others have few integers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Conv2d(48, 16, 3, padding=1)
        with torch.no_grad():
            self.layer.weight[:, 0, 0, 0] *= 30.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.layer(x))


class Kinds(nn.Module):
    """Every kind of layer: strided, grouped, depthwise, dilated, transposed, of signals, linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.grouped = nn.Conv2d(48, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
        self.raised = nn.ConvTranspose2d(8, 6, (3, 2), (2, 3), (1, 1), (1, 0), groups=2, dilation=(1, 2))
        self.depthwise = nn.Conv1d(6, 6, 3, padding=2, groups=6)
        self.lengthened = nn.ConvTranspose1d(6, 5, 4, stride=2, padding=3)
        self.line = nn.Linear(40, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.raised(self.grouped(x)).flatten(2)[:, :, :50])
        return self.line(self.lengthened(x)[:, :, :40])


def source_of(module: nn.Module, given: Inputs) -> FloatGraph:
    model = Model(name="small", module=module.eval(), example_inputs=given[0])
    return FloatGraph(model, dataset(given), progress=SILENT)


def layer_errors(module: nn.Module, given: Inputs) -> list[tuple[float, float]]:
    """The mean squared error of each layer's output, rounded to nearest and adaptively, for float inputs."""
    source = source_of(module, given)
    graph = source.copy()
    scheme = settle(graph, plan_int8(graph.graph), source.statistics(progress=SILENT), named("int8-static"))
    inputs: dict[torch.fx.Node, list[torch.Tensor]] = {layer.args[0]: [] for layer in scheme.weights}

    class Keeping(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            result = super().run_node(n)
            if n in inputs:
                inputs[n].append(result)
            return result

    with torch.no_grad():
        for sample in given:
            Keeping(graph).run(*sample)
    former = {layer: weight for layer, (weight, _) in scheme.originals.items()}
    round_adaptively(graph, scheme, source.samples(), biases_follow=False, progress=SILENT)
    found = []
    for layer, weight in former.items():
        chosen = constant(graph, layer.args[1])
        assert torch.equal(scheme.rounded(layer, chosen), chosen)
        assert float(((chosen - weight) / scheme.weight_scale(layer, weight)).abs().max()) < 1.001
        errors = [
            sum(float(layer.target(x, e, None, *layer.args[3:]).square().mean()) for x in inputs[layer.args[0]])
            for e in (scheme.rounded(layer, weight) - weight, chosen - weight)
        ]
        found.append((errors[0], errors[1]))
    return found


def test_errors_cancel_where_inputs_go_together(tmp_path: Path) -> None:
    module, given = Coarse().eval(), correlated((1, 48, 8, 8), count=32, seed=1)
    fresh = correlated((1, 48, 8, 8), count=16, seed=2)

    def sqnr(recipe: str, form: str) -> float:
        _, runtime = lowered(quantized(module, given, recipe), form, tmp_path)
        return float(sqnr_db(reference(module, fresh), outputs(runtime, fresh)))

    for form in ("pte", "onnx"):
        assert sqnr("int8-static+adaround", form) > sqnr("int8-static", form) + 3.0


def test_no_layer_of_any_kind_is_worse_than_rounded_to_nearest() -> None:
    errors = layer_errors(Kinds(), correlated((1, 48, 12, 12), count=16, seed=1))

    assert len(errors) == 5
    for nearest, adaptive in errors:
        assert adaptive <= nearest
    assert sum(adaptive < 0.8 * nearest for nearest, adaptive in errors) >= 3


def test_a_wide_layer_goes_part_by_part_and_a_large_network_sample_by_sample_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = correlated((1, 48, 8, 8), count=8, seed=1)
    monkeypatch.setattr(adaround, "_WIDEST", 100)
    monkeypatch.setattr(adaround, "_MEMORY", 2 * 4 * 100**2)

    ((nearest, adaptive),) = layer_errors(Coarse(), given)

    assert adaptive < 0.5 * nearest


def test_the_same_samples_give_the_same_integers() -> None:
    given = correlated((1, 48, 40, 40), count=8, seed=1)
    programs = [quantized(Coarse().eval(), given, "int8-static+adaround").program for _ in range(2)]

    states = [program.state_dict | program.constants for program in programs]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert np.array_equal(tensor.numpy(), states[1][name].numpy()), name
