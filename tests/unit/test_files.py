from __future__ import annotations

import errno
import multiprocessing
import os
import time
from pathlib import Path  # noqa: TC003  # pytest gives one
from typing import TYPE_CHECKING

import pytest

from edgeq import files
from edgeq.errors import DiskFullError

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    home = tmp_path / "home"
    target = home / "a.json"
    files.write_text(target, "old")
    with pytest.raises(RuntimeError), files.atomic_file(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert _names(home) == {"a.json"}


def test_a_full_disk_says_what_to_do_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(DiskFullError, match="no space left") as caught, files.atomic_file(home / "big") as file:
        file.write(b"part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "--out" in caught.value.hint
    assert _names(home) == set()


def test_a_folder_takes_its_place_only_when_whole(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with files.atomic_folder(home / "build") as folder:
        (folder / "one").write_text("1")
    with pytest.raises(KeyboardInterrupt), files.atomic_folder(home / "build") as folder:
        (folder / "two").write_text("2")
        raise KeyboardInterrupt
    assert _names(home) == {"build"}
    assert _names(home / "build") == {"one"}


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with files.atomic_folder(tmp_path / "build") as folder:
            (folder / name).write_text(name)
    assert _names(tmp_path / "build") == {"two"}


def test_what_a_killed_process_left_is_mended_by_the_next(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".build.old").mkdir(parents=True)
    (home / ".build.old" / "kept").write_text("")
    (home / ".build.new-dead").mkdir()
    with pytest.raises(RuntimeError), files.atomic_folder(home / "build"):
        raise RuntimeError
    assert _names(home) == {"build"}
    assert _names(home / "build") == {"kept"}


def test_lines_are_appended_and_a_torn_one_is_ended_first(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b'{"a": 1}\n{"tor')
    files.append_line(rows, '{"b": 2}')
    assert rows.read_bytes() == b'{"a": 1}\n{"tor\n{"b": 2}\n'


def _hold(path: Path, entered: Event) -> None:
    with files.folder_lock(path):
        entered.set()
        time.sleep(0.3)


def test_a_second_process_waits_for_the_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    entered = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "x", entered))
    other.start()
    assert entered.wait(5)
    with files.folder_lock(tmp_path / "x"):
        other.join(1)
        assert other.exitcode == 0


def test_the_cache_can_be_moved(tmp_path: Path) -> None:
    assert files.cache_dir() == tmp_path / "cache"
