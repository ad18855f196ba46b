from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.records import Limits, Report, ReportRow
from edgeq.stages.report import as_html, as_markdown, classes


def _with_losses(given: Any, int8: set[int], **changes: Any) -> tuple[Report, ReportRow]:
    """A report of a build whose fp32 file is right everywhere and whose int8 file is wrong on ``int8``."""
    manifest = given.manifest(**changes)
    rows = tuple(
        given.measurement(one, "board", wrong=int8 if one.recipe != "fp32" else set())
        for one in manifest.artifacts
        if one.format == "pte"
    )
    report = given.report(of=manifest, rows=rows)
    return report, next(row for row in report.rows if row.recipe != "fp32")


def test_a_class_that_lost_by_more_than_chance_is_named_with_its_counts(given: Any) -> None:
    report, row = _with_losses(given, {3 + 10 * index for index in range(12)} | {5, 7})
    found = row.class_changes

    assert found is not None
    assert (found.classes, found.worse, found.significant) == (10, 3, 1)
    worst = found.worst[0]
    assert (worst.label, worst.samples, worst.lost, worst.gained) == (3, 100, 12, 0)
    assert worst.p_value <= 0.05
    for text in (as_markdown.render(report), as_html.render(report)):
        assert "Classes that lose right answers" in text
        assert "3 of 10 classes lose right answers, 1 by more than chance" in text


def test_of_a_thousand_classes_only_a_few_are_shown(given: Any) -> None:
    labels = np.arange(1000, dtype=np.int64)
    np.save(given.with_labels(given.folder, 1000) / "evaluation" / "labels.npy", labels)
    manifest = given.manifest()
    fp32, int8 = manifest.artifacts[0], manifest.artifacts[2]
    right = {"correct": 1000, "predictions": tuple(labels.tolist())}
    wrong = {"correct": 600, "predictions": tuple(np.where(labels < 400, -7, labels).tolist())}
    rows = (given.measurement(fp32, wrong=set(), **right), given.measurement(int8, wrong=set(), **wrong))
    row = next(one for one in given.report(of=manifest, rows=rows).rows if one.artifact == int8.name)

    assert row.class_changes is not None
    assert (row.class_changes.classes, row.class_changes.worse, row.class_changes.significant) == (1000, 400, 0)
    assert len(row.class_changes.worst) == len(classes.table([row]).rows) == 5


def test_without_a_loss_there_is_no_table(given: Any) -> None:
    report, row = _with_losses(given, set())
    assert row.class_changes is not None
    assert (row.class_changes.worse, row.class_changes.worst) == (0, ())
    assert "Classes that lose" not in as_html.render(report)


def test_a_drop_that_nobody_can_tell_says_how_many_samples_would(given: Any) -> None:
    report, row = _with_losses(given, set(range(4)), limits=Limits(max_drop_pp=0.5))

    check = next(one for one in report.checks if one.limit == "max_drop_pp" and one.artifact == row.artifact)
    assert check.outcome == "cannot tell"
    assert row.samples_needed is not None
    assert (row.samples_needed.drop_pp, row.samples_needed.at_best) == (0.5, 1200)
    assert row.samples_needed.usually >= 1200
    assert row.samples_needed.differing == pytest.approx(5 / 1002)
    assert f"{row.samples_needed.usually:,} labelled samples would find a drop of 0.5 pp" in check.text


def test_without_a_limit_samples_are_counted_for_half_a_point(given: Any) -> None:
    _, row = _with_losses(given, {1, 2}, limits=None)
    assert row.samples_needed is not None
    assert row.samples_needed.drop_pp == 0.5


def test_a_limit_of_no_drop_at_all_has_no_number_of_samples(given: Any) -> None:
    _, row = _with_losses(given, {1, 2}, limits=Limits(max_drop_pp=0.0))
    assert row.samples_needed is None
