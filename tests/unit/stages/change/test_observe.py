from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeq.evaluation import UNLABELLED, subset
from edgeq.schema import to_json
from edgeq.stages.change import all_observations, observations
from edgeq.testing import sample_measurement, tiny_build

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.records import Manifest, Measurement

LABELS = np.array([0, 1, UNLABELLED, 2, 3, UNLABELLED, 0, 1, 2, 3])


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    made = tiny_build(tmp_path)
    np.save(tmp_path / "evaluation" / "labels.npy", LABELS)
    return made


def row(manifest: Manifest, count: int, *, wrong: set[int]) -> Measurement:
    """The first ``count`` samples as a device runs them, those in ``wrong`` answered wrongly."""
    ran = subset(LABELS, len(LABELS), count)
    predictions = tuple(9 if index in wrong else int(LABELS[index]) for index in ran.tolist())
    labelled = [index for index in ran.tolist() if LABELS[index] != UNLABELLED]
    return replace(
        sample_measurement(manifest.artifacts[1]),
        predictions=predictions,
        labelled=len(labelled),
        correct=sum(index not in wrong for index in labelled),
        total=count,
        agree_fp32=None,
        agreement_with_host=None,
    )


def right(folder: Path, manifest: Manifest, measured: Measurement) -> str:
    return next(one.right for one in observations(folder, manifest, [measured]) if one.measured)


def test_a_shorter_runs_answers_begin_a_longer_ones(tmp_path: Path, manifest: Manifest) -> None:
    every = right(tmp_path, manifest, row(manifest, 10, wrong={4, 7}))
    assert (len(every), every.count("0")) == (8, 2)
    for count in (1, 3, 5, 8):
        some = right(tmp_path, manifest, row(manifest, count, wrong={4, 7}))
        assert every.startswith(some)
        assert len(some) == min(count, 8)


def test_answers_that_do_not_fit_the_labels_are_left_out(tmp_path: Path, manifest: Manifest) -> None:
    torn = replace(row(manifest, 10, wrong={4}), correct=3)
    assert right(tmp_path, manifest, torn) == ""


def test_every_artifact_is_observed_even_if_it_was_not_measured(tmp_path: Path, manifest: Manifest) -> None:
    found = observations(tmp_path, manifest, [row(manifest, 10, wrong=set())])
    assert {(one.artifact, one.measured is None) for one in found} == {
        ("tiny.fp32.pte", True),
        ("tiny.int8-static.pte", False),
    }


def test_rows_of_files_that_are_gone_and_of_another_pace_are_not_observed(tmp_path: Path, manifest: Manifest) -> None:
    measured = row(manifest, 10, wrong=set())
    stale = replace(measured, artifact_sha256="gone", id="stale")
    paced = replace(measured, mode="single-shot", id="paced")
    assert [one.measured for one in all_observations(tmp_path, manifest, [stale, paced, measured])] == [measured]


def test_an_observation_says_which_commit_it_is_of(tmp_path: Path, manifest: Manifest) -> None:
    from edgeq.records import Origin

    (tmp_path / "origin.json").write_text(to_json(Origin(project="p", commit="abc", dirty=True)))
    found = observations(tmp_path, manifest, [])
    assert {(one.commit, one.dirty) for one in found} == {("abc", True)}
