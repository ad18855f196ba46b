from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.records import Limits

if TYPE_CHECKING:
    from edgeq.records import Check, Report

INT8 = "tiny.int8-static.pte"


def only(report: Report, limit: str, artifact: str = INT8) -> Check:
    return next(one for one in report.checks if (one.limit, one.artifact) == (limit, artifact))


def with_wrong(given: Any, device: str, *, fp32: set[int], int8: set[int], limits: Limits) -> Report:
    manifest = given.manifest(limits=limits)
    rows = tuple(
        given.measurement(one, device, wrong=fp32 if one.recipe == "fp32" else int8) for one in manifest.artifacts
    )
    report: Report = given.report(of=manifest, rows=rows)
    return report


def test_no_limits_no_checks(given: Any) -> None:
    assert given.report("board", of=given.manifest(limits=None)).checks == ()


def test_fp32_has_no_limits_of_its_own(given: Any) -> None:
    assert all("fp32" not in one.artifact for one in given.report("board").checks)


def test_shares_are_held_against_the_file_once(given: Any) -> None:
    manifest = given.manifest(limits=Limits(min_int8_mac_share=0.999, min_delegated_mac_share=0.99))
    report = given.report("board", "pi", of=manifest)
    assert [(one.limit, one.outcome, one.device) for one in report.checks if one.artifact == INT8] == [
        ("min_int8_mac_share", "missed", None),
        ("min_delegated_mac_share", "met", None),
    ]


@pytest.mark.parametrize(("most", "outcome"), [(1, "missed"), (2, "met")])
def test_partitions_are_held_against_the_pte_alone(given: Any, most: int, outcome: str) -> None:
    manifest = given.manifest(limits=Limits(max_partitions=most))
    artifacts = tuple(dataclasses.replace(one, partitions=2) for one in manifest.artifacts)
    found = given.report(of=dataclasses.replace(manifest, artifacts=artifacts)).checks
    assert [(one.artifact, one.limit, one.outcome) for one in found] == [(INT8, "max_partitions", outcome)]
    assert found[0].text == f"2 partitions; the limit is at most {most}"


@pytest.mark.parametrize(
    ("int8", "most", "outcome"),
    [
        (set(range(80)), 0.5, "met"),  # never differs: at most 0.2 pp worse
        (set(range(110)), 0.5, "missed"),  # 3 pp worse, and surely not by chance
        (set(range(81)), 0.05, "cannot tell"),  # 0.1 pp worse, which is chance
        (set(range(2, 80)), 0.1, "cannot tell"),  # better here; yet perhaps worse elsewhere
    ],
)
def test_a_drop_is_missed_met_or_open(given: Any, int8: set[int], most: float, outcome: str) -> None:
    report = with_wrong(given, "board", fp32=set(range(80)), int8=int8, limits=Limits(max_drop_pp=most))
    assert only(report, "max_drop_pp").outcome == outcome


def test_an_unpaired_drop_is_held_to_the_limit_as_it_is(given: Any) -> None:
    manifest = given.manifest(limits=Limits(max_drop_pp=0.05))
    manifest = dataclasses.replace(manifest, evaluation=dataclasses.replace(manifest.evaluation, labels=None))
    check = only(given.report("board", of=manifest), "max_drop_pp")
    assert check.outcome == "missed"
    assert "no interval" in check.text


def test_what_was_not_measured_cannot_be_told(given: Any) -> None:
    report = given.report()
    assert only(report, "max_drop_pp").outcome == "cannot tell"
    assert only(report, "never_slower").outcome == "cannot tell"
    assert "not measured yet" in only(report, "never_slower").text


def test_slower_is_decided_by_a_real_clock_only(given: Any) -> None:
    assert only(given.report("board"), "never_slower").outcome == "cannot tell"
    assert only(given.report("local"), "never_slower").outcome == "cannot tell"
    assert only(given.report("local", of=given.manifest(target="host")), "never_slower").outcome == "met"
    assert only(given.report("pi"), "never_slower").outcome == "met"
    rows = given.measured(given.manifest(), "pi")
    swapped = {"tiny.fp32.pte": rows[2].latencies_ns, INT8: rows[0].latencies_ns}
    slow = tuple(dataclasses.replace(one, latencies_ns=swapped.get(one.artifact, one.latencies_ns)) for one in rows)
    assert only(given.report(rows=slow), "never_slower").outcome == "missed"


def test_each_verdict_stands_in_its_row_too(given: Any) -> None:
    report = given.report("board")
    row = next(one for one in report.rows if one.artifact == INT8)
    assert [text.split(": ")[:2] for text in row.verdicts] == [
        ["min_int8_mac_share", "met"],
        ["max_drop_pp", "met"],
        ["never_slower", "cannot tell"],
    ]
