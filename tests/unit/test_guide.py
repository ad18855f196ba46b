"""The guide to recipes names nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeq.project import BuildSection, RecipeSection
from edgeq.recipe import RECIPES, TECHNIQUES, named
from edgeq.schema import from_data, read_toml

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "recipes.md").read_text()


def test_every_recipe_in_the_guide_can_be_built() -> None:
    names = set(re.findall(r"\bint[48]-[a-z0-9+-]*[a-z]", GUIDE))
    assert len(names) >= 8
    for name in names:
        named(name)


def test_every_recipe_and_technique_is_in_the_guide() -> None:
    plain = {name for name in RECIPES if name not in ("fp32", "int8-static-per-tensor")}
    assert not [name for name in plain if f"`{name}`" not in GUIDE and f"`{name} " not in GUIDE]
    implied = {"per-channel", "affine", "bias-correction"}
    assert not [name for name in TECHNIQUES if name not in implied and f"+{name}" not in GUIDE]


def test_the_tables_of_the_guide_are_tables_that_edgeq_reads(tmp_path: Path) -> None:
    [block] = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "guide.toml").write_text(block)
    data = read_toml(tmp_path / "guide.toml")
    sections = {name: from_data(RecipeSection, table, where="the guide") for name, table in data["recipes"].items()}
    own = {name: named(section.base) for name, section in sections.items()}
    for name in from_data(BuildSection, data["build"], where="the guide").recipes:
        named(name, own)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"examples/\w+(?:/\w+\.py)?", GUIDE))))
def test_every_example_in_the_guide_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w./-]+)\)", GUIDE))))
def test_every_link_of_the_guide_leads_somewhere(path: str) -> None:
    assert (ROOT / "docs" / path).exists()
