"""Every pattern that is known to lose accuracy is found where it was planted, and nowhere else."""

from __future__ import annotations

import dataclasses
import json
import shutil
import site
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from quantize_models import dataset, samples, settled
from torch import nn
from torch.nn import functional

from edgeq.model import Model
from edgeq.progress import SILENT
from edgeq.quantize import FloatGraph
from edgeq.quantize.explain import numerics_of, sums_saturate
from edgeq.quantize.findings import find
from edgeq.quantize.observers import RANGES
from edgeq.quantize.static import settled as settle
from edgeq.recipe import named
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeq.records import NumericFinding

IMAGE = (1, 3, 8, 8)
EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")


class Lambda(nn.Module):
    """Layers, and how they are put together."""

    def __init__(self, forward: Callable[[Lambda, torch.Tensor], torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.put_together = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.put_together(self, x)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _found(
    module: nn.Module,
    given: list[tuple[torch.Tensor, ...]],
    recipe: str = "int8-static",
    *,
    saturating: bool = False,
) -> tuple[NumericFinding, ...]:
    source = FloatGraph(Model(name="small", module=module, example_inputs=given[0]), dataset(given), progress=SILENT)
    with torch.no_grad():
        ready = settle(source, named(recipe), progress=SILENT)
        return find(ready.graph, ready.scheme, ready.statistics, saturating=saturating)


def _only(found: tuple[NumericFinding, ...]) -> NumericFinding:
    assert len(found) == 1, [finding.code for finding in found]
    assert found[0].remedy
    assert all(np.isfinite(value) for value in found[0].numbers.values())
    return found[0]


def _two_convolutions() -> Lambda:
    return Lambda(
        lambda my, x: my.second(functional.relu(my.first(x))), first=nn.Conv2d(3, 8, 3), second=nn.Conv2d(8, 4, 1)
    )


def test_a_healthy_network_has_no_finding_by_any_recipe() -> None:
    net = settled(
        Lambda(
            lambda my, x: my.head(my.last(torch.cat([my.stem(x), my.branch(my.stem(x))], 1)).mean((2, 3))),
            stem=nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6()),
            branch=nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Hardswish()),
            last=nn.Conv2d(16, 16, 1),
            head=nn.Linear(16, 5),
        )
    )
    for recipe in ("int8-static", "int8-static+minmax", "int8-static+per-tensor+symmetric"):
        assert _found(net, samples(IMAGE, count=16), recipe) == ()


def test_outliers_that_stretch_a_range_are_found_and_the_remedy_mends_it() -> None:
    given = samples((1, 3, 32, 32), count=16)
    given[7][0][0, 0, 3, 3] = 400.0
    net = _two_convolutions()
    finding = _found(net, given, "int8-static+minmax")[0]
    assert (finding.code, finding.layer) == ("stretched-range", "x")
    assert finding.numbers["steps"] < 8
    assert "of 255 steps" in finding.sentence
    assert "+percentile" in finding.remedy
    assert "x" not in {one.layer for one in _found(net, given, "int8-static+percentile")}


@pytest.mark.parametrize("share", [0.00004, 0.00065, 0.005])
@pytest.mark.parametrize("sides", [(1.0,), (1.0, -1.0)])
def test_few_outliers_are_found_however_few_and_only_observers_that_mend_it_are_named(
    share: float, sides: tuple[float, ...]
) -> None:
    given = samples((1, 3, 32, 32), count=16)
    flat = torch.stack([sample for (sample,) in given]).view(-1)
    places = torch.randperm(flat.numel())[: round(share * flat.numel())]
    flat[places] = 400.0 * torch.tensor(sides).repeat(len(places))[: len(places)]
    outlying = [(sample,) for sample in flat.view(16, 1, 3, 32, 32)]
    finding = _found(_two_convolutions(), outlying, "int8-static+minmax")[0]
    assert (finding.code, finding.layer) == ("stretched-range", "x")
    assert finding.numbers["high"] < 4
    remedies = [name for name in RANGES if f"+{name}" in finding.remedy]
    assert bool(remedies) == (share < 0.0005)
    for name in RANGES:
        others = _found(_two_convolutions(), outlying, f"int8-static+{name}")
        still = ("stretched-range", "x") in {(one.code, one.layer) for one in others}
        assert still == (name not in remedies), name


@pytest.mark.parametrize("observer", RANGES)
@pytest.mark.parametrize("kind", ["uniform", "normal", "laplace", "sparse", "exponential"])
def test_data_without_outliers_have_no_stretched_range(kind: str, observer: str) -> None:
    shape = (1, 3, 32, 32)
    draw = {
        "uniform": lambda: torch.rand(shape),
        "normal": lambda: torch.randn(shape),
        "laplace": lambda: torch.distributions.Laplace(0.0, 1.0).sample(shape),
        "sparse": lambda: functional.relu(torch.randn(shape) - 1.5),
        "exponential": lambda: torch.empty(shape).exponential_(),
    }[kind]
    found = _found(_two_convolutions(), [(draw(),) for _ in range(32)], f"int8-static+{observer}")
    assert "stretched-range" not in {finding.code for finding in found}


def test_channels_of_wildly_different_range_are_found() -> None:
    net = _two_convolutions()
    with torch.no_grad():
        for tensor in (net.first.weight, net.first.bias):
            tensor[:6] *= 0.003
    finding = _only(_found(net, samples(IMAGE, count=16)))
    assert (finding.code, finding.layer) == ("uneven-channels", "first")
    assert finding.numbers["starved"] == 6
    assert "test_findings.py" in finding.source


def test_a_clamp_that_others_keep_from_being_fused_is_found() -> None:
    def both(my: Lambda, x: torch.Tensor) -> torch.Tensor:
        wide = my.wide(x)
        return my.inside(torch.clamp(wide, -1, 1)) + my.beside(wide)

    net = Lambda(both, wide=nn.Conv2d(3, 8, 3), inside=nn.Conv2d(8, 4, 1), beside=nn.Conv2d(8, 4, 1))
    with torch.no_grad():
        net.wide.weight *= 50
    finding = _only(_found(net, samples(IMAGE, count=16)))
    assert finding.code == "unfused-clamp"
    assert "others read" in finding.sentence
    assert finding.numbers["steps"] < 32
    net.put_together = lambda my, x: my.inside(torch.clamp(my.wide(x), -1, 1))
    assert _found(net, samples(IMAGE, count=16)) == ()


def test_a_narrow_part_of_a_concatenation_is_found() -> None:
    net = Lambda(
        lambda my, x: my.last(torch.cat([my.wide(x), my.narrow(x)], 1)),
        wide=nn.Conv2d(3, 8, 1),
        narrow=nn.Conv2d(3, 8, 1),
        last=nn.Conv2d(16, 4, 1),
    )
    with torch.no_grad():
        net.narrow.weight *= 0.05
        net.narrow.bias *= 0.05
    codes = {finding.code: finding.layer for finding in _found(net, samples(IMAGE, count=16))}
    assert codes["shared-scale"] == "narrow"


def test_a_result_too_narrow_for_its_products_is_found() -> None:
    net = Lambda(
        lambda my, x: my.second(my.first(torch.cat([x, x + 1e-6], 1))),
        first=nn.Linear(2, 2, bias=False),
        second=nn.Linear(2, 2),
    )
    with torch.no_grad():
        net.first.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    codes = {finding.code: finding.layer for finding in _found(net, samples((1, 1), count=16))}
    assert codes["narrow-result"] == "first"


def test_weights_of_wildly_different_channels_under_one_scale_are_found_and_the_remedy_mends_it() -> None:
    net = Lambda(lambda my, x: my.layer(x), layer=nn.Conv2d(3, 8, 3, bias=False))
    with torch.no_grad():
        net.layer.weight[:4] *= 0.01
    finding = _only(_found(net, samples(IMAGE, count=16), "int8-static+per-tensor"))
    assert (finding.code, finding.layer) == ("uneven-weights", "layer")
    assert finding.numbers["starved"] == 4
    assert "+per-channel" in finding.remedy
    assert _found(net, samples(IMAGE, count=16)) == ()


def test_a_few_large_weights_in_every_channel_are_found() -> None:
    net = Lambda(lambda my, x: my.layer(x), layer=nn.Linear(4096, 4))
    with torch.no_grad():
        net.layer.weight[:, 7] = 1.0
    finding = _only(_found(net, samples((1, 4096), count=16)))
    assert (finding.code, finding.layer) == ("outlying-weights", "layer")


def test_a_bias_that_int32_cannot_hold_is_found_where_it_costs_other_channels_their_steps() -> None:
    net = _two_convolutions()
    with torch.no_grad():
        net.first.bias[3] = -1e7
    codes = {finding.code: finding.layer for finding in _found(net, samples(IMAGE, count=16), "int8-static+per-tensor")}
    assert codes["wide-bias"] == "first"
    assert "wide-bias" not in {finding.code for finding in _found(net, samples(IMAGE, count=16))}


@pytest.mark.parametrize("how", ["no weight", "never alive"])
def test_dead_channels_are_found(how: str) -> None:
    net = _two_convolutions()
    with torch.no_grad():
        if how == "no weight":
            net.first.weight[2:4] = 0
        else:
            net.first.bias[2:4] = -50.0
    finding = _only(_found(net, samples(IMAGE, count=16)))
    assert (finding.code, finding.layer) == ("dead-channels", "first")
    assert finding.numbers["without_weight" if how == "no weight" else "silent"] == 2
    if how == "never alive":
        assert _found(net, samples(IMAGE, count=4)) == ()  # four samples tell nothing


def test_a_layer_that_makes_most_of_the_noise_is_named_with_the_words_to_keep_it_float() -> None:
    net = nn.Sequential()
    for _ in range(4):
        net.extend([nn.Linear(64, 64), nn.Tanh()])
    with torch.no_grad():
        net[4].weight[5, 5] = 200.0
    given = samples((1, 64), count=16)
    source = FloatGraph(Model(name="small", module=net, example_inputs=given[0]), dataset(given), progress=SILENT)
    ready = settle(source, named("int8-static+per-tensor"), progress=SILENT)
    found = numerics_of("mine", ready, source.samples(), progress=SILENT)
    dominant = next(finding for finding in found.findings if finding.code == "dominant-layer")
    assert dominant.layer == "4"
    assert 'keep_float = ["4"]' in dominant.remedy
    assert [row.module for row in found.layers if row.kind == "layer"] == ["0", "2", "4", "6"]
    assert found.samples == 16


def test_only_x86_with_uint8_activations_and_without_vnni_saturates() -> None:
    host, board = load_target("host"), load_target("rpi4")
    assert sums_saturate(host)
    assert not sums_saturate(dataclasses.replace(host, features=(*host.features, "avx512_vnni")))
    assert not sums_saturate(board)


def test_products_that_leave_int16_are_counted_as_a_processor_would_cut_them() -> None:
    net = Lambda(
        lambda my, x: my.linear(my.conv(x).flatten(1)), conv=nn.Conv2d(3, 4, 3, bias=False), linear=nn.Linear(144, 8)
    )
    given = samples(IMAGE, count=16)
    assert "saturating-products" not in {finding.code for finding in _found(net, given)}
    finding = _only(_found(net, given, saturating=True))
    assert finding.code == "saturating-products"
    assert finding.numbers["of"] == 4 * 14 + 8 * 72
    assert 0 < finding.numbers["pairs"] < finding.numbers["of"]
    assert "session.x64quantprecision" in finding.remedy
    depthwise = Lambda(lambda my, x: my.layer(x), layer=nn.Conv2d(3, 3, 3, groups=3))
    assert _found(depthwise, given, saturating=True) == ()


_RUN = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
import numpy, onnxruntime
for path in sys.argv[2:]:
    answers = []
    for precise in ("0", "1"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.x64quantprecision", precise)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        values = numpy.full(session.get_inputs()[0].shape, 255, dtype=numpy.uint8)
        answers.append(int(session.run(None, {"x": values})[0].max()))
    print(json.dumps(answers))
"""


@pytest.mark.skipif(EMULATOR is None, reason="an x86 processor without VNNI is emulated; install qemu-user-static")
def test_onnxruntime_cuts_sums_of_such_pairs_without_vnni_unless_told_to_be_precise(tmp_path: Path) -> None:
    cases = {
        "a pair of input channels": (_two_weights((0, 0), (1, 0), channels=4, groups=1), True),
        "neighbours of two pairs": (_two_weights((1, 0), (2, 0), channels=4, groups=1), False),
        "two places of the kernel": (_two_weights((0, 0), (0, 1), channels=4, groups=1), False),
        "a pair across two places": (_two_weights((2, 0), (0, 1), channels=3, groups=1), True),
        "groups of one channel": (_two_weights((0, 0), (0, 1), channels=4, groups=4), True),
        "depthwise": (_two_weights((0, 0), (0, 1), channels=16, groups=16), False),
    }
    files = []
    for index, (model, _) in enumerate(cases.values()):
        files.append(str(tmp_path / f"{index}.onnx"))
        onnx.save(model, files[-1])
    packages = json.dumps([path for path in sys.path if path] + site.getsitepackages())
    done = subprocess.run(
        [str(EMULATOR), "-cpu", "Haswell", sys.executable, "-c", _RUN, packages, *files],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    got = dict(zip(cases, (json.loads(line) for line in done.stdout.splitlines()), strict=True))
    # 101 is what becomes of 32767 where the sum is 64770 and stands for 200
    assert got == {name: [101 if cut else 200, 200] for name, (_, cut) in cases.items()}


def _two_weights(*places: tuple[int, int], channels: int, groups: int) -> onnx.ModelProto:
    """A convolution whose weights are 127 at two places, (input channel, place in the kernel), and 0 elsewhere."""
    weight = np.zeros((16, channels // groups, 3, 3), dtype=np.int8)
    for channel, place in places:
        weight[:, channel, 0, place] = 127
    numbers = {"xs": np.float32(1), "xz": np.uint8(0), "ws": np.float32(1), "wz": np.int8(0), "yz": np.uint8(0)}
    numbers["ys"] = np.float32(2 * 255 * 127 / 200)
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], group=groups)],
        "pairs",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, channels, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {**numbers, "w": weight}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
