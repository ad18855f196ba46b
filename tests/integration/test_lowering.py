"""A file that was just written and does not run: whose fault it is, and what can be built instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from edgeq.errors import UnrunnableError
from edgeq.model import Model
from edgeq.progress import SILENT
from edgeq.quantize import FloatGraph, quantize
from edgeq.recipe import named
from edgeq.stages.lowering import lowered
from edgeq.target import load_target

if TYPE_CHECKING:
    from pathlib import Path


class Volumes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv3d(1, 2, 3), nn.Linear(128, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x)).flatten(1))


def test_an_operator_that_the_runtime_refuses_is_named_with_its_layer_and_the_other_format(tmp_path: Path) -> None:
    model = Model(name="volumes", module=Volumes().eval(), example_inputs=(torch.rand(1, 1, 6, 6, 6),))
    program = quantize(FloatGraph(model, None, progress=SILENT), named("fp32"), progress=SILENT)
    path = tmp_path / "hidden" / "volumes.fp32.pte"
    path.parent.mkdir()
    with pytest.raises(UnrunnableError) as caught:
        lowered(program, "pte", load_target("rpi4"), path)
    said = caught.value
    assert said.message.startswith("volumes as .pte does not run at aten::convolution.out of body (")
    assert str(tmp_path) not in said.message + said.hint
    assert "--format onnx" in said.hint
    assert "build it again" not in said.hint
    assert not path.exists()
    assert lowered(program, "onnx", load_target("rpi4"), tmp_path / "volumes.onnx").macs
