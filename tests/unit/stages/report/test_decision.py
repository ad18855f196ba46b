from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from edgeq.records import Limits
from edgeq.stages.report import summarise

if TYPE_CHECKING:
    from edgeq.records import Decision, Report

INT8 = "tiny.int8-static.pte"


def decided(report: Report) -> Decision:
    return report.builds[0].decision


def commands(decision: Decision) -> str:
    return "\n".join(line for question in decision.open_questions for line in question.commands)


def with_wrong(given: Any, device: str, *, fp32: set[int], int8: set[int], samples: int = 1000) -> Report:
    manifest = given.manifest()
    rows = tuple(
        given.measurement(one, device, wrong=fp32 if one.recipe == "fp32" else int8, samples=samples)
        for one in manifest.artifacts
    )
    report: Report = given.report(rows=rows)
    return report


def test_a_real_board_where_int8_is_faster_and_right_says_ship(given: Any) -> None:
    decision = decided(given.report("pi"))
    assert decision.headline.startswith(f"Ship {INT8} on rpi4 with 4 threads: 2.7")
    assert decision.open_questions == ()
    assert any("p\u00a0=\u00a01.00" in sentence for sentence in decision.evidence)


def test_an_emulated_board_never_decides_speed(given: Any) -> None:
    decision = decided(given.report("board"))
    assert "keeps its accuracy" in decision.headline
    assert "not known yet" in decision.headline
    assert "edgeq bench" in commands(decision)
    assert "--device ssh://USER@BOARD" in commands(decision)
    assert not any("faster" in sentence for sentence in decision.evidence)


def test_the_clock_of_this_machine_says_nothing_about_another_target(given: Any) -> None:
    decision = decided(given.report("local"))
    assert "not known yet" in decision.headline
    assert "ssh://USER@BOARD" in commands(decision)


def test_the_clock_of_this_machine_decides_when_it_is_the_target(given: Any) -> None:
    assert decided(given.report("local", of=given.manifest(target="host"))).headline.startswith("Ship")


def test_a_certain_loss_of_accuracy_says_keep_fp32(given: Any) -> None:
    decision = decided(with_wrong(given, "pi", fp32=set(range(80)), int8=set(range(160))))
    assert decision.headline.startswith("Keep fp32")
    assert any("misses max_drop_pp" in sentence for sentence in decision.evidence)


def test_too_few_samples_prove_nothing_and_the_report_says_how_many_would(given: Any) -> None:
    decision = decided(with_wrong(given, "pi", fp32=set(), int8=set(), samples=20))
    assert decision.headline.startswith("Not proven yet")
    assert any("labelled samples would" in question.question for question in decision.open_questions)


def test_more_samples_on_another_device_count_for_accuracy(given: Any) -> None:
    manifest = given.manifest()
    few = tuple(given.measurement(one, "pi", wrong=set(), samples=20) for one in manifest.artifacts)
    decision = decided(given.report(rows=(*given.measured(manifest, "board"), *few)))
    assert decision.headline.startswith("Ship")


def test_slower_int8_says_keep_fp32_where_time_matters(given: Any) -> None:
    rows = given.measured(given.manifest(limits=None), "pi")
    fp32_times = {"pte": rows[0].latencies_ns, "onnx": rows[1].latencies_ns}
    int8_times = {"pte": rows[2].latencies_ns, "onnx": rows[3].latencies_ns}
    swapped = tuple(
        dataclasses.replace(
            one,
            latencies_ns=(int8_times if "fp32" in one.artifact else fp32_times)[one.artifact.rsplit(".", 1)[1]],
        )
        for one in rows
    )
    decision = decided(given.report(of=given.manifest(limits=None), rows=swapped))
    assert decision.headline.startswith("Keep fp32 where time matters")


def test_nothing_measured_says_what_to_run(given: Any, folder: Any) -> None:
    decision = decided(given.report())
    assert decision.headline.startswith("Nothing to decide yet")
    assert f"edgeq bench {folder} --device board" in commands(decision)


def test_only_fp32_leaves_nothing_to_decide(given: Any) -> None:
    manifest = given.manifest()
    manifest = dataclasses.replace(manifest, artifacts=manifest.artifacts[:2])
    assert "only fp32" in decided(given.report("board", of=manifest)).headline


def test_an_assumed_tolerance_is_said(given: Any) -> None:
    decision = decided(given.report("board", of=given.manifest(limits=Limits())))
    assert any("1 pp was taken" in sentence for sentence in decision.evidence)


def test_an_unsteady_board_is_told_to_measure_longer(given: Any) -> None:
    rows = tuple(dataclasses.replace(one, rounds=(100, 100)) for one in given.measured(given.manifest(), "pi"))
    decision = decided(given.report(rows=rows))
    assert "--device pi --repeats 1000" in commands(decision)


def test_a_folder_with_spaces_and_quotes_is_quoted_for_the_shell(given: Any, tmp_path: Any) -> None:
    odd = given.with_labels(tmp_path / "it's a; rm -rf build", 1000)
    decision = summarise([(odd, given.manifest(), ())]).builds[0].decision
    assert """'"'"'""" in commands(decision)
