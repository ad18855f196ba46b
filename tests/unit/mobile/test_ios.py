"""Names, pins and files of the Swift package; that its code compiles and runs is shown in tests/integration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from edgeq.errors import AppNameError, BackendNotThereError
from edgeq.mobile import ios
from edgeq.mobile.content import AppModel, Content
from edgeq.mobile.ios import packages, swift
from edgeq.records import Requires, TensorSpec
from edgeq.testing import sample_artifact, sample_manifest

if TYPE_CHECKING:
    from pathlib import Path


def model(path: Path, form: Literal["pte", "onnx", "ort"] = "pte", **requires: tuple[str, ...]) -> AppModel:
    artifact = sample_artifact("int8-static", "pte" if form == "pte" else "onnx")
    runtime: Literal["executorch", "onnxruntime"] = "executorch" if form == "pte" else "onnxruntime"
    return AppModel(
        artifact=artifact,
        path=path,
        file=f"tiny.int8-static.{form}",
        format=form,
        requires=Requires(runtime=runtime, version="1.5.1" if form == "pte" else "1.24.2", **requires),
        vectors=(),
    )


def content(*models: AppModel, outputs: tuple[TensorSpec, ...] = ()) -> Content:
    return Content(
        manifest=sample_manifest(),
        package="TinyModel",
        type_name="Tiny",
        models=models,
        inputs=models[0].artifact.inputs,
        outputs=outputs or models[0].artifact.outputs,
        image=None,
        images=(),
        labels=(),
        left_out=(),
    )


@pytest.mark.parametrize(("name", "module"), [("fashion-mnist", "FashionMnistModel"), ("3d.net", "Model3dNetModel")])
def test_a_model_gets_a_module_that_is_not_called_like_its_class(name: str, module: str) -> None:
    assert ios.package(name, None) == module


@pytest.mark.parametrize("wanted", ["", "My Model", "9lives", "com.example", "Größe", "Foundation", "FashionMnist"])
def test_what_cannot_be_a_module_is_an_error_with_an_example(wanted: str) -> None:
    with pytest.raises(AppNameError) as caught:
        ios.package("fashion-mnist", wanted)
    assert "FashionMnistModel" in caught.value.hint


def test_a_pte_needs_the_products_of_its_backend_and_kernels(tmp_path: Path) -> None:
    found = packages.products(
        model(
            tmp_path,
            backends=("XnnpackBackend",),
            ops=("quantized_decomposed::dequantize_per_tensor.out", "aten::topk.values"),
        )
    )
    assert found == ("executorch", "backend_xnnpack", "kernels_optimized", "kernels_quantized")
    assert packages.products(model(tmp_path, backends=("XnnpackBackend",))) == ("executorch", "backend_xnnpack")


def test_a_backend_that_ios_has_not_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(BackendNotThereError, match=r"tiny\.int8-static\.pte runs in VulkanBackend"):
        packages.products(model(tmp_path, backends=("VulkanBackend",)))


def test_each_runtime_is_pinned_as_its_package_is_released(tmp_path: Path) -> None:
    manifest = ios.files(content(model(tmp_path), model(tmp_path, "ort")))["Package.swift"]
    assert '.package(url: "https://github.com/pytorch/executorch.git", branch: "swiftpm-1.5.1"),' in manifest
    assert 'onnxruntime-swift-package-manager", exact: "1.24.2")' in manifest
    assert "platforms: [.iOS(.v17), .macOS(.v14)]" in manifest  # what both take


def test_only_executorch_needs_a_linker_flag(tmp_path: Path) -> None:
    assert "-all_load" in ios.files(content(model(tmp_path)))["Package.swift"]
    only = ios.files(content(model(tmp_path, "onnx")))
    assert "-all_load" not in only["Package.swift"]
    assert "platforms: [.iOS(.v15), .macOS(.v14)]" in only["Package.swift"]
    assert "No linker flags are needed" in only["README.md"]


def test_a_version_that_its_package_may_not_have_is_told_in_the_readme(tmp_path: Path) -> None:
    told = ios.dependency(model(tmp_path))
    assert told.published is None
    assert "1.5.0" in told.note
    assert told.note in ios.files(content(model(tmp_path)))["README.md"]
    assert ios.dependency(model(tmp_path, "onnx")).published is True


def test_a_model_without_images_or_classes_gets_no_code_for_them(tmp_path: Path) -> None:
    found = ios.files(content(model(tmp_path), outputs=(TensorSpec(name="y", shape=(), dtype="float32"),)))
    assert sorted(found) == [
        "Package.swift",
        "README.md",
        "Sources/TinyModel/ExecuTorchEngine.swift",
        "Sources/TinyModel/TensorValues.swift",
        "Sources/TinyModel/Tiny.swift",
        "Tests/TinyModelTests/GoldenTests.swift",
        "Tests/TinyModelTests/VectorFile.swift",
        "Tests/TinyModelTests/VectorFileTests.swift",
    ]
    assert "Resources" not in found["Package.swift"].partition("testTarget")[2]  # there is no such folder


def test_files_whose_names_become_the_same_are_told_apart(tmp_path: Path) -> None:
    one = model(tmp_path)
    code = ios.files(content(one, replace(one, file="tiny.int8.static.pte")))["Sources/TinyModel/Tiny.swift"]
    assert 'case int8StaticPte = "tiny.int8-static.pte"' in code
    assert 'case int8StaticPte2 = "tiny.int8.static.pte"' in code


def test_a_string_cannot_leave_its_quotes() -> None:
    assert swift.quoted('a"\\(b)') == '"a\\"\\\\(b)"'


def test_a_float_is_written_as_its_bits() -> None:
    assert swift.float_bits(1.0) == "0x3f80_0000"
    assert swift.float_bits(-0.0) == "0x8000_0000"
