from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from edgeq.records import Limits, Measurement, ThreadsTried

if TYPE_CHECKING:
    from edgeq.records import Recommendation, Report

FP32_ONNX, INT8_PTE, INT8_ONNX = "tiny.fp32.onnx", "tiny.int8-static.pte", "tiny.int8-static.onnx"


def recommended(report: Report) -> dict[str, Recommendation]:
    return {one.device: one for one in report.builds[0].decision.recommendations}


def marked(report: Report) -> set[tuple[str | None, str]]:
    return {(row.device, row.artifact) for row in report.rows if row.recommended}


def faster(row: Measurement, times: float) -> Measurement:
    return dataclasses.replace(row, latencies_ns=tuple(round(ns / times) for ns in row.latencies_ns))


def test_the_fastest_of_both_runtimes_is_named_with_its_threads_and_the_distance_to_the_next(given: Any) -> None:
    one = recommended(given.report("pi"))["pi"]
    assert (one.artifact, one.runtime, one.recipe, one.threads) == (INT8_PTE, "executorch", "int8-static", 4)
    assert one.of_target
    assert f"as fast as {INT8_ONNX}, the next" in one.reason
    assert marked(given.report("pi")) == {("pi", INT8_PTE)}


def test_nothing_recommended_is_slower_than_an_fp32_file_of_the_other_runtime(given: Any) -> None:
    rows = tuple(faster(row, 5) if row.artifact == FP32_ONNX else row for row in given.measured(given.manifest(), "pi"))
    report = given.report(rows=rows)
    one = recommended(report)["pi"]
    assert (one.artifact, one.recipe, one.runtime) == (FP32_ONNX, "fp32", "onnxruntime")
    assert report.builds[0].decision.headline == (
        f"Keep fp32 where time matters: {FP32_ONNX} is faster on rpi4 than every int8 artifact."
    )


def test_a_faster_file_that_loses_accuracy_is_passed_over_and_said_to_be_faster(given: Any) -> None:
    manifest = given.manifest(limits=Limits(max_drop_pp=0.5))
    rows = tuple(
        given.measurement(one, "pi", wrong=set(range(200)) if one.name == INT8_PTE else set())
        for one in manifest.artifacts
    )
    one = recommended(given.report(of=manifest, rows=rows))["pi"]
    assert one.artifact == INT8_ONNX
    assert f"{INT8_PTE} is faster and misses max_drop_pp" in one.reason


def test_an_emulated_board_names_none_and_ranks_files_of_one_recipe_by_instructions(given: Any) -> None:
    report = given.report("board")
    one = recommended(report)["board"]
    assert one.artifact is None
    assert one.reason.startswith("cannot tell without a board")
    assert f"of the int8-static files {INT8_ONNX} retires the fewest instructions" in one.reason
    assert marked(report) == set()


def test_the_clock_of_this_machine_is_named_as_such_where_the_target_is_another(given: Any) -> None:
    one = recommended(given.report("local"))["local"]
    assert one.artifact == INT8_PTE
    assert not one.of_target
    assert one.reason.startswith("by the clock of this machine, which is not rpi4's")


def test_files_that_were_not_measured_together_are_not_ranked(given: Any) -> None:
    rows = given.measured(given.manifest(), "pi")
    alone = recommended(given.report(rows=rows[:3]))["pi"]
    assert alone.artifact is None
    assert f"{INT8_ONNX} was not measured there" in alone.reason
    apart = recommended(given.report(rows=(*rows[:3], dataclasses.replace(rows[3], session="another"))))["pi"]
    assert apart.artifact is None
    assert "different sessions" in apart.reason


def test_artifacts_that_each_ran_at_their_best_number_of_threads_are_compared(given: Any) -> None:
    def tried(row: Measurement, chosen: int) -> Measurement:
        each = tuple(ThreadsTried(threads=n, latencies_ns=row.latencies_ns[:15], rounds=(5, 5, 5)) for n in (1, 4))
        return dataclasses.replace(row, threads=chosen, tried=each)

    rows = tuple(tried(row, 4 if "fp32" in row.artifact else 1) for row in given.measured(given.manifest(), "pi"))
    row = next(one for one in given.report(rows=rows).rows if one.artifact == INT8_PTE)
    assert row.speedup_vs_fp32.verdict == "faster"
    assert [one.threads for one in row.threads_tried] == [1, 4]


def test_a_loser_is_marked_without_any_limit(given: Any) -> None:
    manifest = given.manifest(limits=None)
    rows = tuple(faster(row, 4) if "fp32" in row.artifact else row for row in given.measured(manifest, "pi"))
    report = given.report(of=manifest, rows=rows)
    losers = {row.artifact for row in report.rows if "slower than its fp32 twin" in row.verdicts}
    assert losers == {INT8_PTE, INT8_ONNX}
