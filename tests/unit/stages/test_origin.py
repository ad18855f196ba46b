from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from edgeq.stages.origin import keep_origin, origin_of, read_origin

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *settings, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path) -> str:
    git(folder, "init", "-q")
    (folder / "model.py").write_text("one")
    git(folder, "add", "model.py")
    git(folder, "commit", "-q", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def test_a_projects_commit_is_found(tmp_path: Path) -> None:
    commit = repository(tmp_path)
    (tmp_path / "untracked.txt").write_text("what git does not know is no change")
    found = origin_of(tmp_path)
    assert (found.commit, found.dirty) == (commit, False)


def test_changes_that_are_not_committed_are_told(tmp_path: Path) -> None:
    commit = repository(tmp_path)
    (tmp_path / "model.py").write_text("two")
    found = origin_of(tmp_path)
    assert (found.commit, found.dirty) == (commit, True)


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert origin_of(tmp_path).commit == ""


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert origin_of(tmp_path).commit == ""


def test_an_origin_is_read_as_it_was_kept_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    (project := tmp_path / "project").mkdir()
    (build := tmp_path / "build").mkdir()
    assert read_origin(build) is None
    keep_origin(project, build)
    found = read_origin(build)
    assert found is not None
    assert found.project == str(project)
    (build / "origin.json").write_text("{")
    assert read_origin(build) is None
