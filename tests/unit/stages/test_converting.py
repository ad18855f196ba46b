"""What an export makes of artifacts: which it takes, and what it says where it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import DelegatePlatformError, FormatWantedError, MissingProgramError
from edgeq.pipeline import export, read_build
from edgeq.stages.converting import Conversions, delegated_artifacts, onnx_artifact, require_delegates
from edgeq.testing import tiny_build

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.records import Manifest


@pytest.fixture
def build(tmp_path: Path) -> Path:
    tiny_build(tmp_path / "build")
    return tmp_path / "build"


def with_onnx(manifest: Manifest) -> Manifest:
    """The same artifacts in both formats; those of int8-static are int8."""
    ptes = [replace(one, int8_mac_share=float(one.recipe != "fp32")) for one in manifest.artifacts]
    onnx = [replace(one, name=one.name.replace(".pte", ".onnx"), format="onnx") for one in ptes]
    return replace(manifest, artifacts=(*ptes, *onnx))


def test_a_delegate_of_another_platform_is_an_error_that_names_those_of_this_one() -> None:
    require_delegates("android", Conversions(delegates=("vulkan", "vulkan-fp16")))
    with pytest.raises(DelegatePlatformError, match="--delegate vulkan: ios") as caught:
        require_delegates("ios", Conversions(delegates=("coreml", "vulkan")))
    assert caught.value.hint == "ios has: coreml, coreml-fp32"


def test_a_delegate_gets_the_float_program_unless_artifacts_are_named(build: Path) -> None:
    manifest = with_onnx(read_build(build).manifest)
    int8 = manifest.chosen(["int8-static"])
    assert [one.name for one in delegated_artifacts(manifest, int8, named=False)] == ["tiny.fp32.pte"]
    assert [one.name for one in delegated_artifacts(manifest, int8, named=True)] == ["tiny.int8-static.pte"]


def test_a_build_without_float_files_gives_a_delegate_what_is_chosen(build: Path) -> None:
    manifest = with_onnx(read_build(build).manifest)
    manifest = replace(manifest, artifacts=tuple(one for one in manifest.artifacts if one.recipe != "fp32"))
    (chosen,) = delegated_artifacts(manifest, manifest.artifacts[:1], named=False)
    assert chosen.name == "tiny.int8-static.pte"


def test_a_delegate_of_an_onnx_is_an_error_that_names_the_pte_files(build: Path) -> None:
    manifest = with_onnx(read_build(build).manifest)
    with pytest.raises(FormatWantedError, match=r"made of a \.pte") as caught:
        delegated_artifacts(manifest, manifest.chosen(["tiny.fp32.onnx"]), named=True)
    assert "tiny.int8-static.pte" in caught.value.hint


def test_an_ort_is_made_of_the_int8_onnx(build: Path) -> None:
    assert onnx_artifact(with_onnx(read_build(build).manifest)).name == "tiny.int8-static.onnx"


def test_an_ort_of_a_build_without_onnx_is_an_error_that_says_how_to_get_one(build: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatWantedError) as caught:
        export(read_build(build), "android", tmp_path / "app", ort=True)
    assert "edgeq build PROJECT --format onnx" in caught.value.hint
    assert not (tmp_path / "app").exists()


def test_a_build_without_its_programs_cannot_be_lowered_for_a_delegate(build: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingProgramError) as caught:
        export(read_build(build), "android", tmp_path / "app", delegates=["vulkan"])
    assert "edgeq build PROJECT --rebuild" in caught.value.hint
    assert not (tmp_path / "app").exists()
