"""What a build is to hold: what cannot be is an error where it was asked for, and said where it was not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import MicrocontrollerRecipeError, MissingArmToolsError, NoOnnxError, NoRuntimeError
from edgeq.project import load_project
from edgeq.stages import planning
from edgeq.stages.planning import plan
from edgeq.target import load_target

if TYPE_CHECKING:
    from edgeq.project import Project

PROJECT = """
[model]
name = "tiny"
factory = "model.py:load"
inputs = [{ shape = [1, 3, 8, 8], dtype = "float32" }]
[data]
calibration = "data.py:calibration"
evaluation = "data.py:evaluation"
metric = "top1"
[build]
formats = ["pte", "onnx"]
recipes = ["fp32", "int8-static", "int8-dynamic", "auto"]
"""
NPU = load_target("ethos-u55-128")
FASHION = load_project(Path(__file__).parents[3] / "examples" / "fashion_mnist")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(planning, "require_packages", lambda _target: None)
    (tmp_path / "edgeq.toml").write_text(PROJECT)
    return load_project(tmp_path)


def test_what_edgeq_toml_lists_for_all_targets_and_an_npu_cannot_have_is_left_out_and_said(project: Project) -> None:
    made = planning.plan(project, NPU, recipes=(), formats=(), jobs=1)
    assert [recipe.name for recipe in made.recipes] == ["fp32", "int8-static"]
    assert made.formats == ("pte",)
    said = " ".join(made.left_out)
    assert all(word in said for word in ("int8-dynamic", "auto", ".onnx"))


def test_a_board_with_linux_has_all_of_it(project: Project) -> None:
    made = planning.plan(project, load_target("rpi4"), recipes=(), formats=(), jobs=1)
    assert len(made.recipes) == 4
    assert (made.formats, made.left_out) == (("pte", "onnx"), ())


@pytest.mark.parametrize("recipe", ["int8-dynamic", "int4-weight-only", "int8-fastest", "int8-mixed", "auto"])
def test_a_recipe_that_was_asked_for_and_cannot_be_is_an_error_that_names_one_that_can(
    project: Project, recipe: str
) -> None:
    with pytest.raises(MicrocontrollerRecipeError) as caught:
        planning.plan(project, NPU, recipes=(recipe,), formats=(), jobs=1)
    assert caught.value.exit_code == 2
    assert "int8-static" in caught.value.hint


def test_an_onnx_file_that_was_asked_for_is_an_error(project: Project) -> None:
    with pytest.raises(NoOnnxError, match="no ONNX Runtime"):
        planning.plan(project, NPU, recipes=(), formats=("onnx",), jobs=1)


def test_the_compiler_is_looked_for_before_anything_else(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_target: object) -> None:
        raise MissingArmToolsError(["ethos-u-vela 5.1.0"], ["ethos-u-vela==5.1.0"])

    monkeypatch.setattr(planning, "require_packages", missing)
    with pytest.raises(MissingArmToolsError):
        planning.plan(project, NPU, recipes=("auto",), formats=(), jobs=1)


def test_a_format_that_nothing_on_the_target_takes_is_refused_with_the_one_that_is() -> None:
    target = load_target("generic-armv7")
    with pytest.raises(NoRuntimeError, match=r"no \.pte runs on arm-linux-gnueabihf") as caught:
        plan(FASHION, target, recipes=(), formats=(), jobs=1)
    assert "--target generic-armv7 --format onnx" in caught.value.hint
    assert plan(FASHION, target, recipes=(), formats=("onnx",), jobs=1).formats == ("onnx",)


def test_without_a_format_the_project_s_are_built() -> None:
    assert plan(FASHION, load_target("rpi4"), recipes=(), formats=(), jobs=1).formats == ("pte", "onnx")
