from __future__ import annotations

from dataclasses import replace

import pytest

from edgeq.records import Trial
from edgeq.stages.verdict import best_of, cheapest_of, too_few, verdict


def _trial(drop_pp: float, labelled: int, *, met: bool, p_value: float = 1.0, recipe: str = "int8-static") -> Trial:
    return Trial(
        recipe=recipe,
        why="",
        outcome="met" if met else "missed",
        labelled=labelled,
        drop_pp=drop_pp,
        drop_p_value=p_value,
        sqnr_db=20.0,
    )


def test_a_drop_within_the_budget_on_enough_samples_needs_no_more_words() -> None:
    assert verdict(_trial(0.25, 1200, met=True), [], 0.5) == (
        "met",
        "int8-static keeps 0.5 pp: a drop of 0.25 pp on 1,200 samples",
    )


def test_a_drop_within_the_budget_on_too_few_samples_is_met_and_says_how_many_could_show_it() -> None:
    outcome, reason = verdict(_trial(0.0, 20, met=True), [], 0.5)
    assert outcome == "met"
    assert reason.endswith("a drop of 0.00 pp on 20 samples; 20 samples cannot show 0.5 pp; 1,200 could")


def test_a_drop_that_may_be_chance_on_too_few_samples_is_open_and_names_the_best() -> None:
    outcome, reason = verdict(_trial(11.11, 9, met=False), [], 0.5)
    assert outcome == "cannot tell"
    assert reason == (
        "no recipe keeps 0.5 pp; the best, int8-static, has a drop of 11.11 pp on 9 samples; "
        "9 samples cannot show 0.5 pp; 1,200 could"
    )


@pytest.mark.parametrize(("labelled", "p_value"), [(1200, 0.2), (400, 0.0078)])
def test_a_drop_over_the_budget_is_missed_if_samples_are_enough_or_it_is_no_chance(
    labelled: int, p_value: float
) -> None:
    trial = _trial(2.0, labelled, met=False, p_value=p_value)
    assert not too_few(trial, 0.5)
    assert verdict(trial, [], 0.5) == (
        "missed",
        f"no recipe keeps 0.5 pp; the best, int8-static, has a drop of 2.00 pp on {labelled:,} samples",
    )


def test_no_number_of_samples_is_said_to_show_a_budget_of_nothing() -> None:
    assert verdict(_trial(0.0, 20, met=True), [], 0.0)[1].endswith("20 samples cannot show 0 pp")


def test_skipped_steps_are_neither_best_nor_cheapest() -> None:
    skipped = Trial(recipe="int8-dynamic", why="", outcome="skipped")
    made = _trial(1.0, 100, met=False)
    assert best_of([skipped, made]) is made
    assert cheapest_of([skipped, made]) is None


def test_what_failed_is_named_where_nothing_keeps_the_budget() -> None:
    failed = Trial(recipe="int8-qat", why="", outcome="failed", error="train.py:train raised RuntimeError: no gpu")
    best = _trial(2.0, 1200, met=False, p_value=0.01)
    assert best_of([best, failed]) is best
    assert verdict(best, [best, failed], 0.5)[1].endswith(
        "on 1,200 samples; int8-qat failed: train.py:train raised RuntimeError: no gpu"
    )
    kept = _trial(0.1, 1200, met=True)
    assert "failed" not in verdict(kept, [failed, kept], 0.5)[1]


def test_among_equals_the_nearest_to_fp32_is_best_and_outputs_that_are_not_finite_are_last() -> None:
    base = _trial(0.0, 100, met=True)
    identical, near = replace(base, sqnr_db=None, identical=True), replace(base, sqnr_db=0.0)
    far, not_finite = replace(base, sqnr_db=-3.0), replace(base, sqnr_db=None)
    assert best_of([not_finite, far, near, identical]) is identical
    assert best_of([not_finite, far, near]) is near
    assert best_of([not_finite, far]) is far


@pytest.mark.parametrize(
    ("layers", "words"), [(("a",), "with 1 layer in float"), (("a", "b"), "with 2 layers in float")]
)
def test_layers_left_in_float_are_counted(layers: tuple[str, ...], words: str) -> None:
    kept = replace(_trial(0.1, 1200, met=True), keep_float=layers)
    assert verdict(kept, [], 0.5)[1].startswith(f"int8-static {words} keeps 0.5 pp")
    missed = replace(_trial(3.0, 1200, met=False, p_value=0.001), keep_float=layers)
    assert f"the best, int8-static {words}, has" in verdict(missed, [], 0.5)[1]
