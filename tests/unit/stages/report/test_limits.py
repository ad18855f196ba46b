from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.records import Limits
from edgeq.stages.report import checks_without_a_device

if TYPE_CHECKING:
    from pathlib import Path

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


def held(given: Any, limits: Limits, device: str = "pi", target: str = "rpi4", **changes: Any) -> Report:
    manifest = given.manifest(limits=limits, target=target)
    rows = tuple(dataclasses.replace(row, **changes) for row in given.measured(manifest, device))
    report: Report = given.report(of=manifest, rows=rows)
    return report


@pytest.mark.parametrize(("share", "outcome"), [(1.1, "met"), (0.9, "missed"), (1.0, "cannot tell")])
def test_a_median_is_held_to_its_limit_with_its_whole_interval(given: Any, share: float, outcome: str) -> None:
    p50_ms = next(row.p50_ms for row in given.report("pi").rows if row.artifact == INT8)
    found = only(held(given, Limits(max_p50_ms=share * p50_ms)), "max_p50_ms")
    assert (found.outcome, found.device) == (outcome, "pi")


def test_a_clock_that_is_not_the_targets_decides_no_limit_of_latency(given: Any) -> None:
    limits = Limits(max_p50_ms=1.0, max_p99_ms=1.0)
    for name in ("max_p50_ms", "max_p99_ms"):
        assert only(held(given, limits, "board"), name).outcome == "cannot tell"
        assert only(held(given, limits, "local"), name).outcome == "cannot tell"
        assert only(held(given, limits, "local", target="host"), name).outcome == "missed"
        assert only(given.report(of=given.manifest(limits=limits)), name).outcome == "cannot tell"


def test_a_device_that_was_not_fit_decides_no_limit_of_time(given: Any) -> None:
    limits = Limits(max_p50_ms=1.0, max_p99_ms=1.0, never_slower=True, max_drop_pp=100.0)
    report = held(given, limits, unfit=("it is throttled now",))
    for name in ("max_p50_ms", "max_p99_ms", "never_slower"):
        found = only(report, name)
        assert found.outcome == "cannot tell"
        assert found.text.startswith("the device was not fit to be measured (it is throttled now)")
    assert only(report, "max_drop_pp").outcome == "met"


def test_the_99th_percentile_is_held_as_it_is(given: Any) -> None:
    assert only(held(given, Limits(max_p99_ms=30.0)), "max_p99_ms").outcome == "met"
    assert only(held(given, Limits(max_p99_ms=16.0)), "max_p99_ms").outcome == "missed"
    few = held(given, Limits(max_p99_ms=30.0), latencies_ns=(17_000_000,) * 20, rounds=(20,))
    assert "20 timed runs are too few" in only(few, "max_p99_ms").text


@pytest.mark.parametrize(("most", "outcome"), [(120_000_000, "met"), (115_899_999, "missed")])
def test_instructions_are_held_where_they_were_counted(given: Any, most: int, outcome: str) -> None:
    limits = Limits(max_instructions=most)
    assert only(held(given, limits, "board"), "max_instructions").outcome == outcome
    assert only(held(given, limits, "pi"), "max_instructions").outcome == "cannot tell"


def test_memory_and_file_size_are_held_to_the_byte(given: Any) -> None:
    report = held(given, Limits(max_peak_rss_bytes=42_000_000, max_size_bytes=4_912_344))
    assert only(report, "max_peak_rss_bytes").outcome == "met"
    assert (only(report, "max_size_bytes").outcome, only(report, "max_size_bytes").device) == ("missed", None)


@pytest.mark.parametrize(("least", "outcome"), [(0.85, "met"), (0.95, "missed"), (0.92, "cannot tell")])
def test_accuracy_is_held_to_its_limit_with_its_whole_interval(given: Any, least: float, outcome: str) -> None:
    found = only(held(given, Limits(min_accuracy=least), "board"), "min_accuracy")
    assert found.outcome == outcome
    assert f"at least {100 * least:.1f}" in found.text


def test_a_limit_can_be_given_for_a_recipe_and_for_an_artifact_of_it(given: Any) -> None:
    sizes = {"int8-static": 1.0, INT8: 5_000_000.0, "fp32": 2.0}
    report = given.report(of=given.manifest(limits=Limits(max_size_bytes=sizes)))
    found = {one.artifact: one.outcome for one in report.checks}
    assert found == {
        "tiny.fp32.pte": "missed",
        "tiny.fp32.onnx": "missed",
        INT8: "met",
        "tiny.int8-static.onnx": "missed",
    }


def test_a_build_is_held_to_what_the_build_machine_can_tell(given: Any, folder: Path) -> None:
    limits = Limits(
        max_p50_ms=1.0,
        max_p99_ms=1.0,
        max_instructions=1,
        max_peak_rss_bytes=1,
        max_size_bytes=1,
        min_accuracy=0.5,
        never_slower=True,
    )
    made = given.manifest(limits=limits)
    unpaired = dataclasses.replace(made, evaluation=dataclasses.replace(made.evaluation, labels=None))
    found = checks_without_a_device(folder, unpaired)
    assert {(one.limit, one.outcome) for one in found} == {("max_size_bytes", "missed"), ("min_accuracy", "met")}
    assert {one.device for one in found} == {None, "the build machine"}
