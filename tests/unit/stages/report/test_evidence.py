from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeq.stages.report.evidence import Labels, drop, gather, latency_ratio, speedup

if TYPE_CHECKING:
    from pathlib import Path


def replaced(rows: Any, artifact: str, **changes: Any) -> tuple[Any, ...]:
    return tuple(dataclasses.replace(row, **changes) if row.artifact == artifact else row for row in rows)


def of(gathered: Any, artifact: str) -> Any:
    return next(one for one in gathered.evidence if one.artifact.name == artifact)


def test_the_newest_row_of_an_artifact_on_a_device_stands_for_it(given: Any) -> None:
    manifest = given.manifest()
    old = given.measured(manifest, "pi")
    new = tuple(
        dataclasses.replace(row, id="new", started_at="2026-11-22T00:00:00+00:00", session="two") for row in old
    )
    gathered = gather(manifest, (*new, *old))
    assert {one.measured.id for one in gathered.evidence} == {"new"}
    assert gathered.older == 4


def test_rows_of_files_that_are_gone_are_counted_and_left_out(given: Any) -> None:
    manifest = given.manifest()
    rows = replaced(given.measured(manifest, "pi"), "tiny.int8-static.pte", artifact_sha256="another")
    gathered = gather(manifest, rows)
    assert gathered.stale == 1
    assert of(gathered, "tiny.int8-static.pte").measured is None


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": (20,) * 9},
        {"rounds": (0, 200)},
        {"latencies_ns": (0,) * 200},
        {"correct": 1001},
        {"correct": 950, "labelled": 900},
        {"labelled": 2000},
        {"agreement_with_host": -1},
    ],
)
def test_a_row_that_contradicts_itself_is_counted_and_left_out(given: Any, changes: dict[str, Any]) -> None:
    manifest = given.manifest()
    gathered = gather(manifest, replaced(given.measured(manifest, "pi"), "tiny.int8-static.pte", **changes))
    assert (gathered.unsound, gathered.stale) == (1, 0)
    assert of(gathered, "tiny.int8-static.pte").measured is None


def test_an_artifact_that_was_measured_nowhere_is_still_there(given: Any) -> None:
    gathered = gather(given.manifest(), ())
    assert len(gathered.evidence) == 4
    assert all(one.measured is None for one in gathered.evidence)


def test_the_twin_is_of_the_same_format_and_session(given: Any) -> None:
    manifest = given.manifest()
    rows = given.measured(manifest, "pi")
    later = dataclasses.replace(rows[0], id="later", session="two", started_at="2026-11-22T00:00:00+00:00")
    evidence = of(gather(manifest, (*rows, later)), "tiny.int8-static.pte")
    assert evidence.twin_measured.id == "tiny.fp32.pte@pi"


def test_int8_on_a_real_board_is_faster_with_an_interval(given: Any) -> None:
    manifest = given.manifest()
    found = speedup(of(gather(manifest, given.measured(manifest, "pi")), "tiny.int8-static.pte"))
    assert found.verdict == "faster"
    assert found.ratio == pytest.approx(46 / 17, rel=0.02)
    assert found.low < found.ratio < found.high


def test_an_emulated_row_never_has_a_speedup(given: Any) -> None:
    manifest = given.manifest()
    found = speedup(of(gather(manifest, given.measured(manifest, "board")), "tiny.int8-static.pte"))
    assert (found.ratio, found.low, found.high, found.verdict) == (None, None, None, "cannot tell")
    assert "emulator" in found.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"timing": "host"}, "clocks of different kinds"),
        ({"timing": "emulated"}, "clocks of different kinds"),
        ({"session": "two"}, "different sessions"),
        ({"threads": 1}, "4 and 1 threads"),
        ({"rounds": (100, 100)}, "not measured in turn"),
    ],
)
def test_rows_that_were_not_measured_alike_are_never_compared(given: Any, changes: dict[str, Any], reason: str) -> None:
    reference, _, candidate, _ = given.measured(given.manifest(), "pi")
    found = latency_ratio(reference, dataclasses.replace(candidate, **changes))
    assert (found.ratio, found.verdict) == (None, "cannot tell")
    assert reason in found.reason


def test_few_rounds_give_a_ratio_and_no_verdict(given: Any) -> None:
    reference, _, candidate, _ = given.measured(given.manifest(), "pi")
    found = latency_ratio(
        dataclasses.replace(reference, rounds=(100, 100)), dataclasses.replace(candidate, rounds=(100, 100))
    )
    assert found.ratio == pytest.approx(2.7, rel=0.02)
    assert (found.low, found.verdict) == (None, "cannot tell")
    assert "too few" in found.reason


def test_a_missing_twin_is_said(given: Any) -> None:
    manifest = given.manifest()
    only_int8 = tuple(row for row in given.measured(manifest, "pi") if "int8" in row.artifact)
    evidence = of(gather(manifest, only_int8), "tiny.int8-static.pte")
    assert "twin was not measured" in speedup(evidence).reason
    assert "twin was not measured" in drop(evidence, Labels(values=None)).unpaired


def test_the_drop_is_paired_by_sample(given: Any, folder: Path) -> None:
    manifest = given.manifest()
    evidence = of(gather(manifest, given.measured(manifest, "board")), "tiny.int8-static.pte")
    found = drop(evidence, Labels.of(folder, manifest))
    # Right in fp32 alone: three samples; in int8 alone: two. 2 * (C(5,0) + C(5,1) + C(5,2)) / 2^5 is 1.
    assert found.drop_pp == pytest.approx(0.1)
    assert found.p_value == 1
    assert found.interval_pp is not None
    assert found.interval_pp[0] < 0.1 < found.interval_pp[1]


def test_samples_without_a_label_are_not_judged(given: Any, folder: Path) -> None:
    manifest = given.manifest()
    labels = np.load(folder / "evaluation" / "labels.npy")
    labels[20:] = -1
    np.save(folder / "evaluation" / "labels.npy", labels)
    rows = tuple(
        dataclasses.replace(row, labelled=20, correct=20 - sum(p < 0 for p in row.predictions[:20]))
        for row in given.measured(manifest, "board")
    )
    found = drop(of(gather(manifest, rows), "tiny.int8-static.pte"), Labels.of(folder, manifest))
    assert found.drop_pp == pytest.approx(-10)
    assert found.interval_pp is not None


def test_a_part_of_the_samples_is_paired_with_its_own_labels(given: Any, folder: Path) -> None:
    manifest = given.manifest()
    rows = tuple(
        dataclasses.replace(
            row,
            total=500,
            labelled=500,
            agree_fp32=500,
            agreement_with_host=500,
            predictions=row.predictions[::2],
            correct=sum(p >= 0 for p in row.predictions[::2]),
        )
        for row in given.measured(manifest, "board")
    )
    found = drop(of(gather(manifest, rows), "tiny.int8-static.pte"), Labels.of(folder, manifest))
    assert found.drop_pp == pytest.approx(0.2)
    assert found.p_value == pytest.approx(1)


def test_rows_over_different_samples_have_no_drop(given: Any, folder: Path) -> None:
    manifest = given.manifest()
    half = given.measurement(manifest.artifacts[0], "board", wrong=set(), samples=500)
    rows = (half, *given.measured(manifest, "board")[1:])
    found = drop(of(gather(manifest, rows), "tiny.int8-static.pte"), Labels.of(folder, manifest))
    assert found.drop_pp is None
    assert "500 samples" in found.unpaired


def test_labels_that_do_not_give_the_measured_count_are_not_used(given: Any, folder: Path) -> None:
    manifest = given.manifest()
    np.save(folder / "evaluation" / "labels.npy", np.zeros(1000, dtype=np.int64))
    evidence = of(gather(manifest, given.measured(manifest, "board")), "tiny.int8-static.pte")
    found = drop(evidence, Labels.of(folder, manifest))
    assert found.drop_pp == pytest.approx(0.1)
    assert (found.interval_pp, found.p_value) == (None, None)
    assert "do not fit" in found.unpaired


def test_labels_that_are_gone_or_damaged_are_said(given: Any, folder: Path) -> None:
    manifest = given.manifest()
    (folder / "evaluation" / "labels.npy").write_bytes(b"no array")
    assert "cannot be read" in Labels.of(folder, manifest).missing
    (folder / "evaluation" / "labels.npy").unlink()
    assert "cannot be read" in Labels.of(folder, manifest).missing


def test_a_metric_of_ones_own_is_not_paired(given: Any, folder: Path) -> None:
    manifest = given.manifest()
    manifest = dataclasses.replace(
        manifest, evaluation=dataclasses.replace(manifest.evaluation, metric="metric.py:iou")
    )
    assert "metric.py:iou" in Labels.of(folder, manifest).missing
