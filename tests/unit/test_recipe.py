from __future__ import annotations

from dataclasses import replace

import pytest

from edgeq.errors import ConfigError
from edgeq.recipe import RECIPES, TECHNIQUES, named


def test_a_recipe_is_found_by_its_own_name() -> None:
    assert all(named(name).name == name for name in RECIPES)


def test_a_misspelt_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        named("int8-statik")
    assert caught.value.hint == "did you mean 'int8-static'?"


def test_only_the_float_twin_is_not_quantized() -> None:
    assert [name for name, recipe in RECIPES.items() if not recipe.quantized] == ["fp32"]


def test_techniques_after_a_plus_sign_change_the_recipe_and_stay_in_its_name() -> None:
    recipe = named("int8-static+percentile+equalize+per-tensor")
    assert recipe.name == "int8-static+percentile+equalize+per-tensor"
    assert (recipe.observer, recipe.equalize, recipe.per_channel) == ("percentile", True, False)


def test_every_technique_changes_a_field_that_recipes_have() -> None:
    for technique, changes in TECHNIQUES.items():
        recipe = named(f"int8-static+{technique}")
        assert {field: getattr(recipe, field) for field in changes} == dict(changes)


def test_a_misspelt_technique_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown technique 'percentil'") as caught:
        named("int8-static+percentil")
    assert caught.value.hint == "did you mean 'percentile'?"


@pytest.mark.parametrize("base", ["fp32", "int8-dynamic", "int4-weight-only", "auto", "int8-mixed"])
def test_a_technique_goes_with_static_scales_only(base: str) -> None:
    with pytest.raises(ConfigError, match="takes no technique") as caught:
        named(f"{base}+equalize")
    assert "int8-static+equalize" in caught.value.hint


def test_a_recipe_of_the_project_is_found_and_takes_techniques_too() -> None:
    own = {"mine": replace(RECIPES["int8-static"], name="mine", keep_float=("head",))}
    assert named("mine", own).keep_float == ("head",)
    assert named("mine+entropy", own).observer == "entropy"
    assert named("mine+entropy", own).keep_float == ("head",)


def test_only_what_sets_scales_beforehand_needs_calibration_samples() -> None:
    without = {name for name, recipe in RECIPES.items() if not recipe.needs_calibration}
    assert without == {"fp32", "int8-dynamic", "int8-weight-only", "int4-weight-only"}
