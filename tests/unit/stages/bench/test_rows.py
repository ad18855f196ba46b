from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.stages.bench.rows import append, measurements_path, read_measurements, read_rows
from edgeq.testing import sample_artifact, sample_measurement

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    rows = tuple(sample_measurement(sample_artifact(recipe)) for recipe in ("fp32", "int8-static"))
    for row in rows:
        append(tmp_path, row)
    assert read_measurements(tmp_path) == rows


def test_a_build_that_was_never_measured_has_no_rows(tmp_path: Path) -> None:
    assert read_measurements(tmp_path) == ()


def test_a_line_cut_short_is_a_finding_and_costs_itself_only(tmp_path: Path) -> None:
    row = sample_measurement(sample_artifact())
    append(tmp_path, row)
    with measurements_path(tmp_path).open("ab") as file:
        file.write(b'{"schema":1,"id"')
    read = read_rows(tmp_path)
    assert read.measurements == (row,)
    assert len(read.findings) == 1
    assert "cut short" in read.findings[0]
    append(tmp_path, row)
    assert read_measurements(tmp_path) == (row, row)
