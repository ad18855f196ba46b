from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.device.local import LocalTransport
from edgeq.device.place import read_place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeq.device.transport import Completed


@pytest.mark.parametrize("root", [".edgeq", "~/.edgeq/", "a/b/c", "a 'strange' \"root\" $(x) ü", "-n"])
def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above_it(tmp_path: Path, root: str) -> None:
    place = read_place(LocalTransport(tmp_path), root)
    assert (place.existing, place.problem, place.executes) == (str(tmp_path), "", True)
    assert place.free_bytes
    assert place.mount
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_tried_itself(tmp_path: Path) -> None:
    (tmp_path / "store" / "blobs").mkdir(parents=True)
    place = read_place(LocalTransport(), str(tmp_path / "store"))
    assert (place.existing, place.problem, place.executes) == (str(tmp_path / "store"), "", True)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["blobs"]


def test_a_file_in_the_way_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_place(LocalTransport(tmp_path), "file/edgeq").problem == "file is there and is no folder"


def test_a_folder_that_cannot_be_written_says_why() -> None:
    place = read_place(LocalTransport(), "/proc/edgeq")
    assert place.problem
    assert place.executes is None
    assert place.free_bytes is None


def test_parts_of_a_store_that_belong_to_somebody_else_are_told(
    tmp_path: Path, bound_by_permissions: tuple[str, ...]
) -> None:
    class Bound(LocalTransport):
        def run(self, argv: Sequence[str], **how: Any) -> Completed:
            return super().run([*bound_by_permissions, *argv], **how)

    (tmp_path / "blobs").mkdir(mode=0o555)
    assert "blobs" in read_place(Bound(), str(tmp_path)).problem


def test_a_file_system_without_programs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What noexec does to the probe: it is there and does not start.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "chmod").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "bin" / "chmod").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert read_place(LocalTransport(tmp_path), "store").executes is False


def test_a_device_whose_shell_says_nothing_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.device.place.PLACE_SCRIPT", "exit 1")
    place = read_place(LocalTransport(tmp_path), ".edgeq")
    assert (place.problem, place.executes, place.free_bytes) == ("", None, None)
