from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run_push(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run_push

    return run_push


def test_a_round_visits_every_way_and_the_table_has_a_row_for_each(run_push: ModuleType, tmp_path: Path) -> None:
    if shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") is None or shutil.which("scp") is None:
        pytest.skip("openssh is not installed")
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 4000)
    with run_push.loopback(tmp_path, "") as (address, folder):
        runs = run_push.visits("here", address, folder, file, 1)
    run_push.write(tmp_path / "out", runs, 1)
    assert sorted(run.way for run in runs) == sorted(run_push.WAYS)
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["runs"]) == 3
    table = (tmp_path / "out" / "results.md").read_text()
    assert all(f"| here | {way} |" in table for way in run_push.WAYS)
