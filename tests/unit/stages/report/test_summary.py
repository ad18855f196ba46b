from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.records import BusyProcess, CrossCheck, DeviceState, Report
from edgeq.schema import from_json, to_json
from edgeq.stages.report import summarise

if TYPE_CHECKING:
    from pathlib import Path

TIMES = ("p50_ms", "p90_ms", "p99_ms", "ci95_ms", "load_ms", "first_ms")
CONTRACT = {
    "artifact", "format", "recipe", "device", "timing", "size_bytes", "p50_ms", "p90_ms", "p99_ms", "ci95_ms",
    "speedup_vs_fp32", "instructions", "peak_rss_bytes", "accuracy", "accuracy_ci95", "drop_pp", "drop_p_value",
    "host_agreement", "int8_mac_share", "delegated_mac_share", "verdicts",
}  # fmt: skip


def row(report: Report, artifact: str, device: str | None) -> Any:
    return next(one for one in report.rows if (one.artifact, one.device) == (artifact, device))


def test_an_emulated_row_has_instructions_and_no_time(given: Any) -> None:
    for one in given.report("board").rows:
        assert all(getattr(one, name) is None for name in TIMES)
        assert one.instructions > 0
        assert one.speedup_vs_fp32.verdict == "cannot tell"


def test_a_row_of_a_real_board_has_times_with_an_interval(given: Any) -> None:
    one = row(given.report("pi"), "tiny.int8-static.pte", "pi")
    assert one.p50_ms == pytest.approx(17, rel=0.02)
    assert one.ci95_ms[0] < one.p50_ms < one.ci95_ms[1]
    assert one.p50_ms < one.p90_ms < one.p99_ms
    assert one.instructions is None
    assert (one.load_ms, one.first_ms, one.threads, one.runs) == (12, 80, 4, 200)


def test_few_runs_have_no_p99(given: Any) -> None:
    rows = tuple(
        dataclasses.replace(one, latencies_ns=one.latencies_ns[:50], rounds=(10,) * 5)
        for one in given.measured(given.manifest(), "pi")
    )
    assert row(given.report(rows=rows), "tiny.fp32.pte", "pi").p99_ms is None


def test_what_was_not_measured_is_none(given: Any) -> None:
    for one in given.report().rows:
        unknown = (*TIMES, "device", "timing", "instructions", "peak_rss_bytes", "accuracy", "accuracy_ci95", "drop_pp")
        assert all(
            getattr(one, name) is None for name in (*unknown, "drop_p_value", "fp32_agreement", "host_agreement")
        )
        assert one.size_bytes > 0


def test_an_artifact_measured_on_one_device_has_no_row_of_nothing(given: Any) -> None:
    manifest = given.manifest()
    rows = tuple(one for one in given.measured(manifest, "board") if "fp32" in one.artifact)
    report = given.report(rows=rows)
    assert [(one.artifact, one.device) for one in report.rows] == [
        ("tiny.fp32.pte", "board"),
        ("tiny.fp32.onnx", "board"),
        ("tiny.int8-static.pte", None),
        ("tiny.int8-static.onnx", None),
    ]


def test_the_targets_own_clock_comes_first_and_fp32_before_int8_in_each_runtime(given: Any) -> None:
    report = given.report("board", "local", "pi")
    assert [one.device for one in report.rows] == ["pi"] * 4 + ["board"] * 4 + ["local"] * 4
    assert [one.artifact for one in report.rows[:4]] == [
        "tiny.fp32.pte",
        "tiny.int8-static.pte",
        "tiny.fp32.onnx",
        "tiny.int8-static.onnx",
    ]


def test_accuracy_comes_with_its_count_and_wilson_interval(given: Any) -> None:
    one = row(given.report("board"), "tiny.int8-static.pte", "board")
    assert (one.correct, one.labelled, one.accuracy) == (919, 1000, 0.919)
    assert one.accuracy_ci95 == pytest.approx((0.9005, 0.9343), abs=1e-4)
    assert one.drop_pp == pytest.approx(0.1)
    assert one.drop_p_value == 1
    assert one.size_ratio == pytest.approx(3.79, abs=0.01)


def test_without_labels_there_is_agreement_and_no_accuracy(given: Any) -> None:
    manifest = given.manifest()
    rows = tuple(dataclasses.replace(one, correct=None, labelled=0) for one in given.measured(manifest, "board"))
    one = row(given.report(rows=rows), "tiny.int8-static.pte", "board")
    assert (one.accuracy, one.accuracy_ci95, one.drop_pp) == (None, None, None)
    assert one.fp32_agreement == pytest.approx(0.919)


def test_the_json_has_every_key_of_the_contract(given: Any) -> None:
    data = json.loads(to_json(given.report("board")))
    assert {"schema", "model", "target", "rows"} <= set(data)
    assert set(data["rows"][0]) >= CONTRACT
    assert data["rows"][0]["p50_ms"] is None
    assert set(data["rows"][0]["speedup_vs_fp32"]) >= {"ratio", "low", "high", "verdict"}


def test_a_report_can_be_read_back(given: Any) -> None:
    report = given.report("board", "pi")
    assert from_json(Report, to_json(report), where="report.json") == report


def test_stale_and_older_rows_are_counted_in_a_note(given: Any) -> None:
    rows = given.measured(given.manifest(), "board")
    stale = tuple(dataclasses.replace(one, artifact_sha256="gone") for one in rows)
    older = tuple(dataclasses.replace(one, started_at="2020-01-01T00:00:00+00:00") for one in rows[:1])
    notes = " ".join(given.report(rows=(*rows, *stale, *older)).notes)
    assert "4 row(s)" in notes
    assert "1 older row(s)" in notes


def test_findings_of_the_build_and_of_the_rows_are_told(given: Any) -> None:
    manifest = given.manifest(
        findings=("hard-swish stays in float",),
        cross_checks=(CrossCheck(recipe="int8-static", agree=900, total=1000, sqnr_db=12.0),),
    )
    rows = tuple(dataclasses.replace(one, agreement_with_host=950) for one in given.measured(manifest, "board"))
    findings = "\n".join(given.report(of=manifest, rows=rows).findings)
    assert "hard-swish" in findings
    assert "900 of 1,000" in findings
    assert "950 of 1,000" in findings


def test_a_twin_that_was_measured_again_alone_is_noted(given: Any) -> None:
    rows = given.measured(given.manifest(), "pi")
    again = dataclasses.replace(rows[0], session="two", started_at="2026-11-22T00:00:00+00:00")
    report = given.report(rows=(*rows, again))
    int8 = row(report, "tiny.int8-static.pte", "pi")
    assert int8.speedup_vs_fp32.verdict == "faster"
    assert any("own session" in note for note in int8.notes)
    assert row(report, "tiny.fp32.pte", "pi").notes == ()


def test_a_device_that_throttled_is_noted(given: Any) -> None:
    rows = tuple(dataclasses.replace(one, throttled=True) for one in given.measured(given.manifest(), "pi"))
    assert any("throttled" in note for note in given.report(rows=rows).rows[0].notes)


def test_others_that_computed_on_the_device_are_noted_by_name(given: Any) -> None:
    busy = (BusyProcess(pid=7, name="motion", share=0.4), BusyProcess(pid=8, name="cron", share=0.06))
    states = (DeviceState(), DeviceState(busy=busy))
    rows = tuple(dataclasses.replace(one, states=states) for one in given.measured(given.manifest(), "pi"))
    (note,) = [note for note in given.report(rows=rows).rows[0].notes if "computing" in note]
    assert "(motion)" in note


def test_a_build_named_twice_is_reported_once(given: Any, folder: Path) -> None:
    manifest = given.manifest()
    one = (folder, manifest, given.measured(manifest, "board"))
    report = summarise([one, one, (folder / ".." / folder.name, manifest, ())])
    assert len(report.builds) == 1
    assert len(report.rows) == 4


def test_several_builds_keep_their_rows_apart(given: Any, tmp_path: Path) -> None:
    first, second = given.with_labels(tmp_path / "one", 1000), given.with_labels(tmp_path / "two", 1000)
    manifest = given.manifest()
    other = dataclasses.replace(manifest, target="rpi5")
    report = summarise([(first, manifest, given.measured(manifest, "pi")), (second, other, ())])
    assert (report.model, report.target) == ("tiny", "rpi4, rpi5")
    assert {one.build for one in report.rows if one.device == "pi"} == {str(first)}
    assert {one.build for one in report.rows if one.device is None} == {str(second)}
    assert [one.decision.headline.split(maxsplit=1)[0] for one in report.builds] == ["Ship", "Nothing"]
