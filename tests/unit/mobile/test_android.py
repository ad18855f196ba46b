"""Names and paths of the Android module; that its code compiles and runs is shown in tests/integration."""

from __future__ import annotations

import pytest

from edgeq.errors import AppNameError
from edgeq.mobile import android
from edgeq.mobile.android import kotlin
from edgeq.mobile.content import type_name


@pytest.mark.parametrize(
    ("model", "package", "type_of"),
    [
        ("fashion-mnist", "com.example.fashionmnist", "FashionMnist"),
        ("efficientnet-lite0", "com.example.efficientnetlite0", "EfficientnetLite0"),
        ("3d.net", "com.example.model3dnet", "Model3dNet"),
        ("when", "com.example.modelwhen", "When"),
        ("tensor", "com.example.tensor", "ModelTensor"),
        ("模型", "com.example.model", "Model"),
    ],
)
def test_a_model_gets_names_that_kotlin_takes(model: str, package: str, type_of: str) -> None:
    assert android.package(model, None) == package
    assert type_name(model) == type_of


def test_a_package_may_be_chosen() -> None:
    assert android.package("x", "org.example.my_app2") == "org.example.my_app2"


@pytest.mark.parametrize("wanted", ["", "model", "Org.example", "org..example", "org.2x", "org.fun.x", "org/example"])
def test_what_is_no_package_is_an_error_with_an_example(wanted: str) -> None:
    with pytest.raises(AppNameError) as caught:
        android.package("x", wanted)
    assert "com.example.model" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "name"), [("int8-static.pte", "int8StaticPte"), ("0", "value0"), ("fun", "valueFun"), ("", "value")]
)
def test_names_of_tensors_and_files_become_identifiers(text: str, name: str) -> None:
    assert kotlin.camel(text) == name


def test_a_constant_begins_with_a_letter() -> None:
    assert kotlin.constant("int8-static+mse.onnx") == "INT8_STATIC_MSE_ONNX"
    assert kotlin.constant("4bit.pte") == "M4BIT_PTE"


def test_a_string_cannot_leave_its_quotes_or_name_a_variable() -> None:
    assert kotlin.quoted('a"b$c\\d') == '"a\\"b\\$c\\\\d"'


def test_a_float_is_written_as_the_shortest_that_is_itself() -> None:
    assert kotlin.float32(72.94) == "72.94f"
    assert kotlin.float32(127) == "127.0f"
