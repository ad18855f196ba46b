from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.records import LeakCheck
from edgeq.stages.report import as_markdown, paces

if TYPE_CHECKING:
    from edgeq.records import Measurement


def at_rate(row: Measurement, **changes: Any) -> Measurement:
    """The row as if its samples had arrived 20 times a second, in an order of its own."""
    rounds = len(row.rounds)
    made = dataclasses.replace(
        row,
        mode="at-rate",
        rate_hz=20.0,
        arrivals="poisson",
        executions_ns=row.latencies_ns,
        latencies_ns=tuple(2 * ns for ns in row.latencies_ns),
        spans_ns=(20 * 50_000_000,) * rounds,
        started_at="2026-11-22T01:10:00+00:00",
        session="two",
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture
def rows(given: Any) -> tuple[Measurement, ...]:
    found: tuple[Measurement, ...] = given.measured(given.manifest(), "pi")
    return found


def test_rows_at_another_pace_take_no_part_in_what_is_compared(given: Any, rows: tuple[Measurement, ...]) -> None:
    plain = given.report(rows=rows)
    paced = given.report(rows=(*rows, *(at_rate(row) for row in rows)))

    assert paced.rows == plain.rows
    assert paced.checks == plain.checks
    assert [build.decision for build in paced.builds] == [build.decision for build in plain.builds]
    assert paced.notes == plain.notes


def test_latencies_at_a_rate_have_a_table_of_their_own(given: Any, rows: tuple[Measurement, ...]) -> None:
    report = given.report(rows=(*rows, *(at_rate(row) for row in rows)))
    (build,) = report.builds
    fp32 = next(row for row in build.paces if row.artifact == "tiny.fp32.pte")

    assert fp32.p50_ms == pytest.approx(92, rel=0.02)
    assert fp32.busy_share == pytest.approx(0.92, rel=0.02)
    assert fp32.ci95_ms is not None
    assert fp32.notes == ()
    text = as_markdown.render(report)
    assert "#### Samples that arrive at random, 20 a second, on pi" in text
    assert "counts from when the sample arrived" in text


def test_a_device_that_cannot_keep_up_is_named(given: Any, rows: tuple[Measurement, ...]) -> None:
    slow = at_rate(rows[0], spans_ns=tuple(20 * 46_000_000 for _ in rows[0].rounds))
    (row,) = given.report(rows=(slow,)).builds[0].paces

    assert "cannot keep up with 20 samples a second" in row.notes[0]


def test_each_pace_has_its_table_and_the_newest_row_counts(given: Any, rows: tuple[Measurement, ...]) -> None:
    newer = at_rate(rows[0], started_at="2026-11-23T01:10:00+00:00", threads=2)
    even = at_rate(rows[0], arrivals="even")
    single = dataclasses.replace(rows[0], mode="single-shot", pause_ms=100)
    found = given.report(rows=(newer, at_rate(rows[0]), even, single)).builds[0].paces

    assert [row.threads for row in found if row.arrivals == "poisson"] == [2]
    titles = [table.title for table in paces.tables_of(found)]
    assert sorted(titles) == [
        "Samples that arrive at random, 20 a second, on pi",
        "Samples that arrive evenly, 20 a second, on pi",
        "Single shots, 100 ms apart, on pi",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unfit": ("it is 91 C hot",)}, "not fit to be measured: it is 91 C hot"),
        ({"test_faults": True}, "nothing may be decided by it"),
        ({"steady_search_ns": ((1,) * 400,) * 3}, "no steady level was found (in 400 runs)"),
        ({"steady_search_ns": ((1,) * 9,)}, "only 9 runs fitted"),
        (
            {"leak": LeakCheck(runs=(100, 1000), anonymous_bytes=(0, 1 << 20), grew_bytes=1 << 20, verdict="grows")},
            "leak",
        ),
        (
            {"leak": LeakCheck(runs=(100, 1000), anonymous_bytes=(), grew_bytes=0, verdict="cannot tell")},
            "does not say what a process holds",
        ),
    ],
)
def test_what_was_not_as_it_should_be_is_a_note_of_the_row(
    given: Any, rows: tuple[Measurement, ...], changes: dict[str, Any], said: str
) -> None:
    changed = [dataclasses.replace(rows[0], **changes), *rows[1:]]

    (note,) = given.report(rows=changed).rows[0].notes
    assert said in note


def test_a_level_that_changes_within_the_timed_runs_is_noted(given: Any, rows: tuple[Measurement, ...]) -> None:
    first = rows[0]
    slow = tuple(int(ns * 1.2) if index % 20 < 8 else ns for index, ns in enumerate(first.latencies_ns))
    changed = dataclasses.replace(first, latencies_ns=slow, steady_after=0, steady_search_ns=((1,) * 40,))

    assert "its level still changed" in given.report(rows=(changed, *rows[1:])).rows[0].notes[0]
    assert given.report(rows=rows).rows[0].notes == ()


def test_starts_and_throughput_are_told_where_they_were_measured(given: Any, rows: tuple[Measurement, ...]) -> None:
    changed = dataclasses.replace(
        rows[0],
        cold_start_ns=250_000_000,
        spans_ns=(1_000_000_000,) * 10,
        steady_after=4,
        load_anonymous_bytes=9_000_000,
    )
    report = given.report(rows=(changed, *rows[1:]))
    row = report.rows[0]

    assert (row.cold_start_ms, row.per_second, row.steady_after, row.load_anonymous_bytes) == (250, 20, 4, 9_000_000)
    assert (report.rows[1].cold_start_ms, report.rows[1].per_second) == (None, None)
    text = as_markdown.render(report)
    assert "Cold start" in text
    assert "5 runs" in text


def test_a_leak_check_has_a_table_also_where_there_is_no_leak(given: Any, rows: tuple[Measurement, ...]) -> None:
    clean = LeakCheck(runs=(100, 1000), anonymous_bytes=(8192, 12288), grew_bytes=4096, verdict="does not grow")
    report = given.report(rows=(dataclasses.replace(rows[0], leak=clean), *rows[1:]))
    (line,) = [line for line in as_markdown.render(report).splitlines() if "does not grow" in line]

    assert "900" in line
    assert "kB" in line
    assert "#### Leaks" not in as_markdown.render(given.report(rows=rows))
