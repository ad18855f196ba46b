from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeq import world

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("beside", [".edgeq", "__pycache__"])
def test_what_edgeq_and_python_put_beside_a_users_files_is_no_change_of_the_folder(tmp_path: Path, beside: str) -> None:
    (tmp_path / "photo.png").touch()
    before = world.listing(tmp_path, tmp_path / "build")
    (tmp_path / beside).mkdir()
    assert world.listing(tmp_path, tmp_path / "build") == before
    (tmp_path / "another.png").touch()
    assert world.listing(tmp_path, tmp_path / "build") != before


def test_a_pattern_names_every_file_but_the_history(tmp_path: Path) -> None:
    for name in (".edgeq/history.db", ".edgeq/history.db-journal", ".edgeq/history.db.png", ".edgeq/own/photo.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = world.matching(str(tmp_path / "**"))
    assert found == (str(tmp_path / ".edgeq/history.db.png"), str(tmp_path / ".edgeq/own/photo.png"))
