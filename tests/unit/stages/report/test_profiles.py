from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edgeq.records import OpTime, ReportRow
from edgeq.schema import to_json
from edgeq.stages.report import as_html, as_markdown, operator_chart, profiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeq.stages.report.tables import Table

    Profiled = Callable[..., ReportRow]

ROUNDS = (10,) * 5


@pytest.fixture
def profiled(given: Any) -> Profiled:
    """The row of an artifact whose profile holds these operators."""

    def row(*ops: OpTime, device: str = "pi", **changes: Any) -> ReportRow:
        what = given.manifest().artifacts[2]
        more = {
            "profiled_ns": tuple(3_000_000 + 1000 * index for index in range(50)),
            "unprofiled_ns": tuple(2_000_000 + 1000 * index for index in range(50)),
            "profiled_rounds": ROUNDS,
            **changes,
        }
        measured = given.measurement(what, device, wrong=set(), ops=ops, **more)
        return next(one for one in given.report(rows=(measured,)).rows if one.artifact == what.name)

    return row


def _op(name: str, ns: int, **more: Any) -> OpTime:
    return OpTime(name=name, ns=ns, delegated=True, **more)


def _table(row: ReportRow) -> Table:
    found = profiles.table(row)
    assert found is not None
    return found


def test_the_largest_operators_come_first_and_the_rest_is_summed(profiled: Profiled) -> None:
    many = [_op(f"op{index}", 1000 * index, kernel="Conv", source=f"line {index}") for index in range(1, 15)]
    table = _table(profiled(*many, _op("delegate", 5000, kind="delegate call"), _op("", 8000, kind="unattributed")))

    assert [row[0].text for row in table.rows[:2]] == ["op14", "op13"]
    assert table.rows[0][1].text == "line 14"
    assert table.rows[0][0].small == "Conv"
    told = [(row[0].text, row[2].text.replace("\u00a0", " ")) for row in table.rows[-3:]]
    assert told == [
        ("2 more operators", "3.00 \u00b5s"),
        ("calls of the delegate", "5.00 \u00b5s"),
        ("in no operator", "8.00 \u00b5s"),
    ]


def test_what_profiling_costs_has_an_interval_from_inferences_in_turn(profiled: Profiled) -> None:
    row = profiled(_op("a", 10))
    assert row.profile is not None
    cost = row.profile.cost
    assert cost is not None
    assert cost.low is not None
    assert cost.high is not None
    assert 1.4 < cost.low <= cost.ratio <= cost.high < 1.6
    assert cost.ratio == pytest.approx(3_024_500 / 2_024_500)
    assert "profiling adds +49.4 % to the time of one (95 %: " in _table(row).note


def test_a_row_of_an_edgeq_that_timed_nothing_beside_says_that_the_cost_is_not_known(profiled: Profiled) -> None:
    row = profiled(_op("a", 10), unprofiled_ns=(), profiled_rounds=())
    assert row.profile is not None
    assert row.profile.cost is None
    assert "was not measured" in _table(row).note


def test_an_emulators_times_are_never_shown_but_its_instructions_are(profiled: Profiled) -> None:
    operators = (_op("a", 700_000, instructions=90_000_000), _op("", 9, kind="unattributed", instructions=25_900_000))
    row = profiled(*operators, device="board", profiled_instructions=127_490_000)
    table = _table(row)

    assert [column.name for column in table.columns][2] == "Instructions"
    assert [line[2].text.replace("\u00a0", " ") for line in table.rows] == ["90.0 M", "25.9 M"]
    assert "profiling adds +10.0 % to the instructions" in table.note
    assert row.profile is not None
    assert [op.amount for op in row.profile.ops] == [90_000_000, 25_900_000]
    assert "700000" not in to_json(row.profile)


def test_where_no_operator_is_counted_nothing_is_drawn_and_a_note_says_why(given: Any) -> None:
    what = given.manifest().artifacts[3]
    measured = given.measurement(what, "board", wrong=set(), ops=(_op("a", 700_000),), profiled_ns=(900_000,))
    report = given.report(rows=(measured,))
    row = next(one for one in report.rows if one.device is not None)

    assert (profiles.table(row), operator_chart.draw(row)) == (None, None)
    for page in (as_html.render(report), as_markdown.render(report)):
        assert "profiler works inside of what it times" in page


def test_the_chart_has_a_bar_for_each_module_and_a_piece_for_each_operator(profiled: Profiled) -> None:
    row = profiled(
        _op("conv", 3_000_000, module="features.0.conv", node="c", source="features.0 (net.py:3: x)"),
        _op("pool", 1_000_000, module="features.0.pool", node="p"),
        _op("flip", 500_000),
        _op("add", 250_000, node="add"),
        _op("", 250_000, kind="unattributed"),
    )
    chart = operator_chart.draw(row)
    assert chart is not None

    assert [(bar.label, len(bar.pieces)) for bar in chart.bars] == [
        ("features.0.conv", 1),
        ("features.0.pool", 1),
        ("(the runtime's own)", 1),
        ("(the model)", 1),
        ("(in no operator)", 1),
    ]
    assert chart.bars[0].value.replace("\u00a0", " ") == "3.00 ms, 60.0 %"
    assert "net.py:3" in chart.bars[0].pieces[0].title
    assert chart.bars[0].pieces[0].width == pytest.approx(3 * chart.bars[1].pieces[0].width, abs=0.01)


def test_modules_of_a_deep_network_are_drawn_together(profiled: Profiled) -> None:
    ops = [_op(f"c{block}", 1000, module=f"blocks.{block // 4}.part.{block}", node="n") for block in range(60)]
    chart = operator_chart.draw(profiled(*ops))
    assert chart is not None

    assert [bar.label for bar in chart.bars][:2] == ["blocks.0.part", "blocks.1.part"]
    assert [len(bar.pieces) for bar in chart.bars] == [4] * 15
    ends = [piece.at + piece.width for bar in chart.bars for piece in bar.pieces]
    assert max(ends) <= chart.ticks[-1].at + 0.01


def test_the_page_draws_the_operators_of_a_hostile_model_as_text(given: Any) -> None:
    what = given.manifest().artifacts[2]
    bad = _op("<script>alert(1)</script>", 10, module="<b>m</b>", node="n", source='"><img src=x>')
    rows = (given.measurement(what, "pi", wrong=set(), ops=(bad,), profiled_ns=(10,)),)
    page = as_html.render(given.report(rows=rows))

    assert "&lt;b&gt;m&lt;/b&gt;" in page
    assert "<img" not in page
    assert "<script" not in page
