"""What operators take, on real models in both runtimes: whose time it is, and that it adds up."""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from quantize_models import quantized, samples, settled
from torch import nn

from edgeq.device.local import LocalTransport
from edgeq.lower import lower
from edgeq.progress import Silent
from edgeq.quantize.macs import macs
from edgeq.runner import bundle, execute
from edgeq.stages.bench.profile import profiled
from edgeq.target import load_target

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.records import Format, OpTime

IMAGE = (1, 3, 48, 48)
ENGINES = {"pte": "executorch", "onnx": "onnxruntime"}


class Everything(nn.Module):
    """Convolutions of all kinds, fused and not, a residual, functions of each value, a part outside of XNNPACK."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU6())
        self.wide = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Hardswish(), nn.Conv2d(16, 16, 1))
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.wide(x)
        y = self.up(x)
        x = torch.cat([y, torch.nn.functional.gelu(y)], 1)
        x = torch.cumsum(x, 2)  # no kernel of XNNPACK's: two partitions
        return torch.softmax(self.head(x.mean((2, 3))), -1)


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    root = tmp_path_factory.mktemp("device")
    (root / "d").mkdir()
    for engine in ("executorch", "onnxruntime"):
        for name, path in bundle(engine, f"{platform.machine()}-linux-gnu", progress=Silent()).files.items():
            shutil.copy2(path, root / "d" / name)
    return root


@pytest.mark.parametrize("form", ["pte", "onnx"])
@pytest.mark.parametrize("recipe", ["fp32", "int8-static"])
def test_the_time_of_every_layer_is_known_and_the_sum_is_that_of_an_inference(
    runners: Path, form: Format, recipe: str
) -> None:
    given = samples(IMAGE, count=2)
    program = quantized(settled(Everything()), given, recipe)
    name = f"m.{recipe}.{form}"
    coverage = lower(program, form, load_target("host"), runners / "d" / name)
    before = set(runners.glob("**/*"))
    visits = [
        execute(
            LocalTransport(runners),
            folder="d",
            executable=f"edgeq-runner-{ENGINES[form]}",
            model=name,
            threads=1,
            warmup=2,
            repeats=10,
            count_instructions=False,
            samples=[np.ascontiguousarray(given[0][0].numpy()).tobytes()],
            on_outputs=lambda _index, _data: None,
            profile=True,
            timeout_s=60,
        )
        for _ in range(2)
    ]

    found = profiled(visits, coverage.operators, device="local")

    assert set(runners.glob("**/*")) == before
    operators = [op for op in found.ops if op.kind == "operator"]
    typical = sorted(found.latencies_ns)[len(found.latencies_ns) // 2]
    assert 0 < sum(op.ns for op in operators) <= max(found.latencies_ns)
    assert sum(op.ns for op in found.ops) <= max(found.latencies_ns)
    assert [op.kind for op in found.ops].count("unattributed") == 1
    layers = {node.name for node in program.float_program.graph.nodes if macs(node)}
    timed = {op.node for op in operators}
    assert len(layers) == 5
    # ONNX Runtime calls a layer that was fused with what follows it by the value of that.
    assert len(layers & (timed | _before(program.float_program.graph, timed))) == 5
    assert typical > 0
    assert _modules(operators) >= {"wide.0", "wide.2", "up", "head"}
    assert all("test_profile.py" in op.source for op in operators if op.module in {"up", "head"})


def _before(graph: torch.fx.Graph, names: set[str]) -> set[str]:
    return {source.name for node in graph.nodes if node.name in names for source in node.all_input_nodes}


def _modules(operators: list[OpTime]) -> set[str]:
    return {op.module for op in operators}
