from __future__ import annotations

import pytest

from edgeq.errors import ConfigError
from edgeq.recipe import RECIPES, named


def test_a_recipe_is_found_by_its_own_name() -> None:
    assert all(named(name).name == name for name in RECIPES)


def test_a_misspelt_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        named("int8-statik")
    assert caught.value.hint == "did you mean 'int8-static'?"


def test_only_the_float_twin_is_not_quantized() -> None:
    assert [name for name, recipe in RECIPES.items() if not recipe.quantized] == ["fp32"]
