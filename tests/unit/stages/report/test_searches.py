from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeq.records import OperationCost, Search, SpeedSearch, SpeedTrial, Trial
from edgeq.stages.report import searches
from edgeq.testing import sample_manifest

if TYPE_CHECKING:
    from edgeq.records import Outcome

TRIED = Trial(
    recipe="int8-static+entropy",
    keep_float=("conv2d_3",),
    why="a simulation gives 22.0 dB, not 20.1",
    outcome="met",
    correct=990,
    labelled=1000,
    drop_pp=0.2,
    drop_ci95_pp=(-0.1, 0.5),
    drop_p_value=0.6,
    agree=980,
    total=1000,
    sqnr_db=22.5,
    int8_mac_share=0.97,
    float_macs=3_000,
    size_bytes=500_000,
    seconds=12.0,
    resumed=True,
)
SEARCH = Search(
    name="auto",
    max_drop_pp=0.5,
    seed=0,
    format="pte",
    outcome="met",
    chosen=TRIED.recipe,
    keep_float=TRIED.keep_float,
    reason="int8-static+entropy keeps 0.5 pp: a drop of 0.20 pp on 1000 samples",
    trials=(Trial(recipe="int8-static+equalize", why="does not help", outcome="skipped"), TRIED),
)


def test_every_trial_is_a_row_with_its_metric_cost_and_seconds() -> None:
    table = searches.table(SEARCH)
    skipped, tried = table.rows
    assert skipped[0].text == "int8-static+equalize"
    assert {cell.text for cell in skipped[1:]} == {"\u2013"}
    assert tried[0].small == "a simulation gives 22.0 dB, not 20.1"
    assert [cell.text.replace("\u00a0", " ") for cell in tried[1:]] == [
        "+0.2 pp",
        "98.0 %",
        "22.5 dB",
        "97.0 %",
        "500 kB",
        "12 s",
    ]
    assert tried[-1].small == "from the journal"


def test_a_trial_that_failed_is_a_row_with_its_error() -> None:
    failed = Trial(recipe="int8-qat", why="weights trained", outcome="failed", error="train raised OSError: no disk")
    (row,) = searches.table(replace(SEARCH, trials=(failed,))).rows
    assert row[0].small == "weights trained; train raised OSError: no disk"
    assert row[0].tone == "bad"
    assert {cell.text for cell in row[1:]} == {"\u2013"}


def test_the_note_says_why_the_search_ended_and_on_what_it_was_judged() -> None:
    note = searches.table(SEARCH).note
    assert "0.5 pp against fp32" in note
    assert note.endswith("int8-static+entropy keeps 0.5 pp: a drop of 0.20 pp on 1000 samples.")
    assert ".pte" in note


@pytest.mark.parametrize("outcome", ["missed", "cannot tell"])
def test_a_search_that_found_nothing_misses_the_limit(outcome: Outcome) -> None:
    missed = replace(SEARCH, outcome=outcome, reason="no recipe keeps 0.5 pp")
    (check,) = searches.checks("build", replace(sample_manifest(), searches=(missed,)))
    assert (check.outcome, check.limit) == ("missed", "max_drop_pp")
    assert check.artifact.endswith(".auto")
    assert check.text == "no recipe keeps 0.5 pp"


def test_a_search_for_the_fastest_shows_what_was_predicted_and_what_it_took() -> None:
    costs = tuple(
        OperationCost(node=node, module="", source="", float_ns=1, int8_ns=2, runs_in="float") for node in "abc"
    )
    mixed = SpeedTrial(
        recipe="int8-fastest",
        float_nodes=("a",),
        why="the cut",
        predicted_ns=800_000,
        median_ns=1_200_000,
        over_fp32=(1.87, 1.6, 2.1),
        over_int8=(1.28, 1.1, 1.4),
    )
    search = SpeedSearch(
        name="int8-fastest",
        format="onnx",
        device="local",
        timing="host",
        threads=1,
        outcome="met",
        chosen="int8-fastest",
        float_nodes=("a",),
        reason="1 of 3 operations in float takes 1.2 ms",
        conversion_ns=500,
        quantize_ns_per_element=0.1,
        dequantize_ns_per_element=0.1,
        layout_ns_per_element=0.0,
        costs=costs,
        trials=(SpeedTrial(recipe="fp32", why="a twin"), mixed),
    )

    table = searches.speed_table(search)

    assert ".onnx" in table.title
    assert table.note.startswith("1 of 3 operations in float takes 1.2 ms.")
    rows = [[cell.text.replace("\u00a0", " ") for cell in row] for row in table.rows]
    nothing = "\u2013"
    assert rows == [
        ["fp32", "3 of 3", nothing, nothing, nothing, nothing],
        ["int8-fastest", "1 of 3", "800 \u00b5s", "1.20 ms", "1.87\u00d7", "1.28\u00d7"],
    ]
    assert table.rows[1][4].small == "1.60\u00d7 to 2.10\u00d7"
