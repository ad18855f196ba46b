"""A build for a microcontroller: no verdict, an estimate that is called one, and nothing that is computed from it."""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from edgeq.records import Limits, Manifest, NpuEstimate, Report
from edgeq.stages.report import as_html, as_json, as_markdown, summarise, terminal
from edgeq.testing.samples import tiny_build

if TYPE_CHECKING:
    from pathlib import Path

ESTIMATE = NpuEstimate(
    by="Vela 5.1.0",
    accelerator="ethos-u55-128",
    system_config="Ethos_U55_High_End_Embedded",
    memory_mode="Shared_Sram",
    clock_hz=500_000_000,
    cycles=88_434,
    compute_cycles=81_110,
    inferences_per_second=5653.9,
    macs=985_632,
    mac_utilisation=0.087,
    sram_bytes=20_176,
    dram_bytes=0,
    on_chip_flash_bytes=0,
    off_chip_flash_bytes=27_120,
    partitions=1,
    outside=2,
)
SCORED = "the same graph in XNNPACK on the build machine"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    made = tiny_build(tmp_path)
    artifacts = tuple(
        dataclasses.replace(
            one,
            host=dataclasses.replace(one.host, scored=SCORED),
            estimate=None if one.recipe == "fp32" else ESTIMATE,
        )
        for one in made.artifacts
    )
    limits = Limits(max_drop_pp=50.0, never_slower=True, max_p50_ms=1.0)
    return dataclasses.replace(
        made, target="ethos-u55-128", artifacts=artifacts, limits=limits, measurable=False, cross_checks=()
    )


@pytest.fixture
def report(manifest: Manifest, tmp_path: Path) -> Report:
    return summarise([(tmp_path, manifest, ())])


def test_there_is_no_verdict_no_question_and_no_recommendation(report: Report) -> None:
    decision = report.builds[0].decision
    assert decision.headline.startswith("No verdict: ethos-u55-128 is a microcontroller")
    assert (decision.open_questions, decision.recommendations) == ((), ())
    (evidence,) = decision.evidence
    assert "Vela" not in evidence
    assert SCORED in evidence


def test_no_figure_of_a_row_comes_of_the_estimate(report: Report) -> None:
    row = next(row for row in report.rows if row.recipe != "fp32")
    assert row.estimate == ESTIMATE
    assert (row.p50_ms, row.per_second, row.peak_rss_bytes, row.instructions) == (None, None, None, None)
    assert row.speedup_vs_fp32.verdict == "cannot tell"


def test_a_limit_of_accuracy_is_judged_by_the_stand_in_and_one_of_time_not_at_all(report: Report) -> None:
    outcomes = {check.limit: check for check in report.checks}
    assert outcomes["never_slower"].outcome == outcomes["max_p50_ms"].outcome == "cannot tell"
    drop = outcomes["max_drop_pp"]
    assert "stands in" in (drop.device or "")


def _shown(report: Report) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal.renderable(report))
    return console.export_text()


@pytest.mark.parametrize("render", [as_markdown.render, as_html.render, _shown])
def test_every_writer_calls_it_an_estimate_with_the_clock_that_is_assumed(report: Report, render: object) -> None:
    text = " ".join(str(render(report)).split())  # type: ignore[operator]
    assert "Estimate by Vela 5.1.0, not a measurement" in text
    assert "88,434" in text
    assert "500 MHz" in text
    assert "2 operators on the core beside it are not counted" in text
    assert "Not measured: ethos-u55-128 runs no Linux" in text
    assert "edgeq deploy" not in text


def test_the_json_report_has_the_estimate_as_a_record_of_its_own(report: Report) -> None:
    text = as_json.render(report)
    assert '"by": "Vela 5.1.0"' in text
    assert '"measurable": false' in text
