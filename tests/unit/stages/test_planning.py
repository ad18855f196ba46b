from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.errors import NoRuntimeError
from edgeq.project import load_project
from edgeq.stages.planning import plan
from edgeq.target import load_target

PROJECT = load_project(Path(__file__).parents[3] / "examples" / "fashion_mnist")


def test_a_format_that_nothing_on_the_target_takes_is_refused_with_the_one_that_is() -> None:
    target = load_target("generic-armv7")
    with pytest.raises(NoRuntimeError, match=r"no \.pte runs on arm-linux-gnueabihf") as caught:
        plan(PROJECT, target, recipes=(), formats=(), jobs=1)
    assert "--target generic-armv7 --format onnx" in caught.value.hint
    assert plan(PROJECT, target, recipes=(), formats=("onnx",), jobs=1).formats == ("onnx",)


def test_without_a_format_the_project_s_are_built() -> None:
    assert plan(PROJECT, load_target("rpi4"), recipes=(), formats=(), jobs=1).formats == ("pte", "onnx")
