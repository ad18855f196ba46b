from __future__ import annotations

from dataclasses import replace
from pathlib import Path  # noqa: TC003  # pytest gives one

import pytest

from edgeq.recipe import named
from edgeq.records import Trial
from edgeq.stages.journal import Journal

RECIPE = named("int8-static+entropy")
TRIAL = Trial(recipe=RECIPE.name, why="because", outcome="missed", drop_pp=0.7, labelled=1000, seconds=12.5)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path))


def test_a_later_search_recalls_what_an_earlier_one_tried() -> None:
    Journal("same").add(TRIAL)
    assert Journal("same").recall(RECIPE) == replace(TRIAL, resumed=True)


def test_other_data_or_another_model_share_nothing() -> None:
    Journal("one").add(TRIAL)
    assert Journal("other").recall(RECIPE) is None


def test_layers_left_in_float_make_another_recipe() -> None:
    Journal("same").add(replace(TRIAL, keep_float=("conv2d",)))
    assert Journal("same").recall(RECIPE) is None
    assert Journal("same").recall(replace(RECIPE, keep_float=("conv2d",))) is not None


def test_a_line_that_a_crash_cut_short_is_no_trial_and_spoils_no_other(tmp_path: Path) -> None:
    Journal("same").add(TRIAL)
    with (tmp_path / "search" / "same.jsonl").open("a") as file:
        file.write('{"recipe": "int8-st')
    other = replace(TRIAL, recipe="int8-static")
    Journal("same").add(other)
    assert Journal("same").recall(RECIPE) is not None
    assert Journal("same").recall(named("int8-static")) is not None
