"""What the README of an export says of files that were made of artifacts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeq.mobile.content import AppModel, model_of
from edgeq.mobile.conversions import section
from edgeq.records import Delegated, OrtFormat, Undelegated
from edgeq.testing import tiny_build

if TYPE_CHECKING:
    from pathlib import Path

DELEGATED = Delegated(
    delegate="vulkan",
    backend="VulkanBackend",
    float_dtype="float32",
    system="Android with Vulkan 1.1",
    mac_share=0.75,
    cpu_mac_share=0.25,
    partitions=2,
    cpu_partitions=1,
    kernels={"et_vk.q8ta_add": 3},
    undelegated=(Undelegated(node="aten_elu", op="aten.elu.default", reason="no-kernel: none", mac_share=0.25),),
    described_db=40.0,
    checked=("this",),
    unchecked=("that",),
)
ORT = OrtFormat(
    operators=("ai.onnx;13;Gemm",), identical=False, sqnr_db=120.0, note="it rounds", checked=("this",), unchecked=()
)


@pytest.fixture
def model(tmp_path: Path) -> AppModel:
    manifest = tiny_build(tmp_path)
    return model_of(tmp_path, manifest, manifest.artifacts[0])


def test_files_as_they_were_built_need_no_section(model: AppModel) -> None:
    assert section([model]) == ""


def test_a_delegates_shares_what_it_left_and_what_nobody_checked_are_told(model: AppModel) -> None:
    text = section([replace(model, file="tiny.fp32.vulkan.pte", delegated=DELEGATED)])
    assert "75.0% of the multiply-accumulates are the delegate's, in 2 pieces; 25.0% XNNPACK's, in 1 piece." in text
    assert "- Its kernels: 3 `et_vk.q8ta_add`." in text
    assert "- Not the delegate's: `aten.elu.default` (aten_elu): no-kernel: none." in text
    assert "- Checked: this.\n- Not checked: that." in text


def test_an_ort_tells_how_near_it_is_and_what_a_build_of_the_runtime_takes(model: AppModel) -> None:
    text = section([model, replace(model, file="tiny.fp32.ort", ort=ORT)])
    assert "120.0 dB from the `.onnx`'s: it rounds." in text
    assert "--include_ops_by_config onnxruntime/required_operators.config" in text
    assert "the same bits" in section([replace(model, ort=replace(ORT, identical=True, sqnr_db=None, note=""))])
