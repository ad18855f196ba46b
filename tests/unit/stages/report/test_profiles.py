from __future__ import annotations

from dataclasses import replace

import pytest

from edgeq.records import Measurement, OpTime
from edgeq.stages.report import profiles
from edgeq.testing import sample_artifact, sample_measurement


def _measured(*ops: OpTime) -> Measurement:
    row = sample_measurement(sample_artifact())
    return replace(row, ops=ops, latencies_ns=(2_000_000,) * 4, profiled_ns=(3_000_000,) * 4)


def _op(name: str, ns: int, **more: str) -> OpTime:
    return OpTime(name=name, ns=ns, delegated=True, **more)  # type: ignore[arg-type]


def test_the_largest_operators_come_first_and_the_rest_is_summed() -> None:
    many = [_op(f"op{index}", 1000 * index, kernel="Conv", source=f"line {index}") for index in range(1, 15)]
    table = profiles.table(
        _measured(*many, _op("delegate", 5000, kind="delegate call"), _op("", 8000, kind="unattributed"))
    )

    assert [row[0].text for row in table.rows[:2]] == ["op14", "op13"]
    assert table.rows[0][1].text == "line 14"
    assert table.rows[0][0].small == "Conv"
    told = [(row[0].text, row[2].text.replace("\u00a0", " ")) for row in table.rows[-3:]]
    assert told == [
        ("2 more operators", "3.00 \u00b5s"),
        ("calls of the delegate", "5.00 \u00b5s"),
        ("in no operator", "8.00 \u00b5s"),
    ]


def test_what_profiling_costs_is_said() -> None:
    row = _measured(_op("a", 10))

    assert profiles.overhead(row) == pytest.approx(0.5)
    assert "profiling adds 50 %" in profiles.table(row).note
    assert profiles.overhead(replace(row, profiled_ns=())) is None


def test_an_emulators_times_are_called_what_they_are() -> None:
    assert "say nothing of a board" in profiles.table(replace(_measured(_op("a", 10)), timing="emulated")).note
