from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgeq.stages.report import charts


def test_bars_start_at_zero_and_have_the_lengths_of_their_values(given: Any) -> None:
    chart = charts.size(given.report("board").rows)
    assert chart is not None
    zero = chart.ticks[0]
    assert zero.text.startswith("0")
    fp32, int8 = chart.panels[0].marks
    assert (fp32.at - zero.at) / (int8.at - zero.at) == pytest.approx(18.612345 / 4.912345, rel=1e-3)


def test_each_runtime_has_a_panel_of_its_own(given: Any) -> None:
    chart = charts.latency(given.report("pi").rows)
    assert chart is not None
    assert [panel.title for panel in chart.panels] == ["ExecuTorch", "ONNX Runtime"]
    assert [mark.reference for mark in chart.panels[0].marks] == [True, False]


def test_instructions_of_two_precisions_never_share_a_chart(given: Any) -> None:
    drawn = charts.instructions(given.report("board").rows)
    assert [chart.title for chart in drawn] == [
        "Instructions per inference, fp32",
        "Instructions per inference, int8-static",
    ]
    for chart in drawn:
        assert len({mark.label for panel in chart.panels for mark in panel.marks}) == 1


def test_an_emulated_board_has_no_latency_chart_and_a_real_one_no_instructions(given: Any) -> None:
    assert charts.latency(given.report("board").rows) is None
    assert charts.instructions(given.report("pi").rows) == ()
    assert charts.latency(given.report("pi").rows) is not None


def test_every_mark_lies_on_its_axis(given: Any) -> None:
    report = given.report("board", "pi")
    drawn = (charts.accuracy(report.rows), charts.size(report.rows), charts.latency(report.rows[:4]))
    for chart in drawn:
        assert chart is not None
        assert 3 <= len(chart.ticks) <= 7
        for panel in chart.panels:
            for mark in panel.marks:
                assert (
                    chart.ticks[0].at
                    <= (mark.low or mark.at)
                    <= mark.at
                    <= (mark.high or mark.at)
                    <= chart.ticks[-1].at
                )


def test_a_figure_of_zero_still_has_an_axis(given: Any) -> None:
    rows = tuple(dataclasses.replace(one, instructions=0) for one in given.report("board").rows)
    chart = charts.instructions(rows)[0]
    assert chart.panels[0].marks[0].at == chart.ticks[0].at


def test_nothing_measured_draws_nothing(given: Any) -> None:
    rows = given.report().rows
    assert charts.accuracy(rows) is None
    assert charts.latency(rows) is None


def test_perfect_accuracy_still_has_an_axis(given: Any) -> None:
    manifest = given.manifest()
    rows = tuple(given.measurement(one, "board", wrong=set()) for one in manifest.artifacts)
    chart = charts.accuracy(given.report(rows=rows).rows)
    assert chart is not None
    assert chart.ticks[-1].text == "100.0\u00a0%"
