"""Programs for a Cortex-M without NPU: what CMSIS-NN takes, and whether it computes what stands in for it here.

ExecuTorch's wheel has each CMSIS-NN call as a function in Python as well: that is what is run.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from npu_models import Everything, WithSoftmax, arguments
from quantize_models import IMAGE, outputs, quantized, samples, settled
from torch.fx import Interpreter

from edgeq.errors import LoweringError
from edgeq.host import HostRuntime
from edgeq.lower import arm_words, cortex_m, lower
from edgeq.target import load_target

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.lower import Coverage
    from edgeq.quantize import QuantizedProgram

TARGET = "cortex-m55"


@pytest.fixture
def rewritten(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each program as ExecuTorch's passes leave it: what is written of one changes it."""
    kept: list[Any] = []
    transform = cortex_m.CortexMPassManager.transform

    def keep(self: Any) -> Any:
        program = transform(self)
        kept.append(copy.deepcopy(program))
        return program

    monkeypatch.setattr(cortex_m.CortexMPassManager, "transform", keep)
    return kept


def _lowered(program: QuantizedProgram, folder: Path) -> Coverage:
    return lower(program, "pte", load_target(TARGET), folder / "core.pte", stand_in=folder / "here.pte")


def _run(program: Any, inputs: tuple[Any, ...]) -> np.ndarray:
    (output,) = Interpreter(program.graph_module).run(*arguments(program, inputs))
    return np.asarray(output.numpy().ravel())


@pytest.mark.parametrize("network", [Everything, WithSoftmax])
def test_every_layer_is_cmsis_nns_and_the_result_is_that_of_the_stand_in(
    network: type[Any], rewritten: list[Any], tmp_path: Path
) -> None:
    coverage = _lowered(quantized(settled(network()), samples(IMAGE)), tmp_path)
    assert (coverage.int8_mac_share, coverage.delegated_mac_share, coverage.partitions) == (1.0, 1.0, 0)
    assert coverage.estimate is None
    assert {"cortex_m::quantized_conv2d_nhwc.out", "cortex_m::quantize_per_tensor.out"} <= set(coverage.requires.ops)
    float_alone = {"aten.hardswish.default"} if network is Everything else {"aten._softmax.default"}
    assert {row.op for row in coverage.undelegated} == float_alone
    (scale,) = coverage.output_scales
    assert scale is not None
    given = samples(IMAGE, count=4, seed=9)
    rows = np.stack([_run(rewritten[0], inputs) for inputs in given])
    here = outputs(HostRuntime(tmp_path / "here.pte", "pte"), given)
    assert np.abs(np.round((rows - here) / scale)).max() <= 1


def test_macs_are_counted_by_the_kernels_own_layout_of_weights(tmp_path: Path) -> None:
    program = quantized(settled(WithSoftmax()), samples(IMAGE))
    coverage = _lowered(program, tmp_path)
    assert sum(node.macs for node in coverage.nodes.nodes) == coverage.macs


def test_an_operator_that_would_compute_on_bare_integers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cortex_m, "BY_CMSIS_NN", arm_words.BY_ETHOS_U)
    with pytest.raises(LoweringError, match="hardswish is left with int8 tensors"):
        _lowered(quantized(settled(Everything()), samples(IMAGE)), tmp_path)
