from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.stages.bench.rows import append
from edgeq.testing import sample_measurement, tiny_build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Checked = Callable[..., Any]


@pytest.fixture
def checked(edgeq: Callable[..., Any]) -> Callable[..., Any]:
    """The command line; it has to leave with ``exits``."""

    def call(*arguments: object, exits: int = 0, **variables: str) -> Any:
        done = edgeq(*arguments, **variables)
        assert done.returncode == exits, done.stdout + done.stderr
        return done

    return call


def measured(folder: Path, *, instructions: int) -> Path:
    for one in tiny_build(folder).artifacts:
        append(folder, replace(sample_measurement(one, emulated=True), instructions=instructions))
    return folder


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return measured(tmp_path / "before", instructions=1_000_000)


@pytest.fixture
def after(tmp_path: Path) -> Path:
    return measured(tmp_path / "after", instructions=1_200_000)


def test_a_check_that_passes_ends_with_0_and_one_that_fails_with_5(checked: Checked, before: Path, after: Path) -> None:
    assert "passed: " in checked("check", before, "--against", before).stdout
    failed = checked("check", after, "--against", before, exits=5)
    assert "failed: 2 worse" in failed.stdout
    assert "2 of what was checked have failed" in failed.stderr


def test_json_is_one_document_also_of_a_check_that_fails(checked: Checked, before: Path, after: Path) -> None:
    done = checked("check", after, "--against", before, "--json", exits=5)
    result: dict[str, Any] = json.loads(done.stdout)
    assert (result["passed"], result["files"]) == (False, [])
    assert "instructions, tiny.fp32.pte on board" in done.stderr


def test_a_tolerance_on_the_command_line_lets_it_pass(checked: Checked, before: Path, after: Path) -> None:
    checked("check", after, "--against", before, "--tolerance", "instructions_percent=25")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("instruction_percent=1", "did you mean 'instructions_percent'?"),
        ("size_percent=much", "'much' is no number"),
        ("size_percent=-1", "not a number from 0 to 100"),
    ],
)
def test_a_tolerance_that_is_none_is_told(checked: Checked, before: Path, given: str, said: str) -> None:
    assert said in checked("check", before, "--against", before, "--tolerance", given, exits=2).stderr


def test_a_build_without_limits_and_without_a_baseline_is_an_error(checked: Checked, before: Path) -> None:
    assert "no baseline is named" in checked("check", before, exits=2).stderr


def test_files_are_written_where_they_are_asked_for(checked: Checked, before: Path, tmp_path: Path) -> None:
    shown = checked("check", before, "--against", before, "--out", tmp_path / "ci", "--save", tmp_path / "saved.json")
    names = ["ci/check.md", "ci/check.xml", "ci/check.json", "saved.json"]
    assert shown.stdout.splitlines()[-4:] == [f"written to {tmp_path / name}" for name in names]
    assert all((tmp_path / name).is_file() for name in names)


def test_history_of_nothing_says_what_to_run(checked: Checked, before: Path, tmp_path: Path) -> None:
    shown = checked("history", before, EDGEQ_HISTORY=str(tmp_path / "history.db"))
    assert "nothing was measured of tiny yet" in shown.stdout
    assert not (tmp_path / "history.db").exists()


def test_a_history_that_is_off_is_told(checked: Checked, before: Path) -> None:
    assert "EDGEQ_HISTORY is off" in checked("history", before, exits=2, EDGEQ_HISTORY="off").stderr
