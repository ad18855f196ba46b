from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeq.device.store import Store
from edgeq.errors import DamagedDeploymentError, NothingToRollBackError, SeveralTargetsError, UnknownNameError
from edgeq.files import sha256_file
from edgeq.progress import Silent
from edgeq.stages.deploy import deploy
from edgeq.stages.store import clean_up, held, roll_back
from edgeq.testing import FakeTransport, sample_bundle, sample_target, tiny_build

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.records import Manifest


class Device:
    """A device with deployments of several builds of one model, the newest last."""

    def __init__(self, folder: Path, count: int) -> None:
        self.transport = FakeTransport(folder / "device")
        self.store = Store(self.transport, ".edgeq")
        self.root = folder / "device" / ".edgeq"
        self._bundle = sample_bundle(folder / "bundle")
        self._folder = folder
        self.ids = [self.deploy(number) for number in range(count)]

    def deploy(self, number: int) -> str:
        build = self._folder / f"build{number}"
        manifest = _with_content(build, tiny_build(build), bytes([number]) * 100)
        bundles = {"executorch": self._bundle}
        done = deploy(build, manifest, sample_target(), self.transport, bundles, device="fake", progress=Silent())
        return done.deployment.id

    def pointer(self) -> list[str]:
        return (self.root / "current" / "tiny@rpi4").read_text().split()


def _with_content(build: Path, manifest: Manifest, content: bytes) -> Manifest:
    name = manifest.artifacts[0].name
    (build / name).write_bytes(content)
    first = replace(manifest.artifacts[0], sha256=sha256_file(build / name), size_bytes=len(content))
    return replace(manifest, artifacts=(first, *manifest.artifacts[1:]))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "host"))


def test_what_a_device_holds_is_listed_the_active_one_first(tmp_path: Path) -> None:
    device = Device(tmp_path, 2)
    rows = held(device.store, progress=Silent())
    assert [(row.name, row.id, row.active) for row in rows] == [
        ("tiny@rpi4", device.ids[1], True),
        ("tiny@rpi4", device.ids[0], False),
    ]
    folder = device.root / "deployments" / device.ids[1]
    files = [path for path in folder.iterdir() if path.name != ".verified"]
    assert (rows[0].files, rows[0].size_bytes) == (len(files), sum(path.stat().st_size for path in files))
    assert rows[0].made_at.startswith("20")


def test_a_device_that_edgeq_never_saw_holds_nothing(tmp_path: Path) -> None:
    assert held(Device(tmp_path, 0).store, progress=Silent()) == ()


def test_a_rollback_goes_to_the_one_before_and_a_second_one_forward_again(tmp_path: Path) -> None:
    device = Device(tmp_path, 3)
    first, second, third = device.ids
    done = roll_back(device.store, device.transport, "tiny", progress=Silent())
    assert (done.name, done.active, done.before) == ("tiny@rpi4", second, third)
    assert device.pointer() == [second, third, first]
    roll_back(device.store, device.transport, "tiny@rpi4", progress=Silent())
    assert device.pointer() == [third, second, first]


def test_a_pointer_moves_only_from_where_it_was_seen(tmp_path: Path) -> None:
    device = Device(tmp_path, 2)
    first, second = device.ids
    assert not device.store.activate("tiny@rpi4", first, after="")
    assert not device.store.activate("tiny@rpi4", first, after=first)
    assert device.pointer() == [second, first]
    assert device.store.activate("tiny@rpi4", first, after=second)
    assert device.pointer() == [first, second]
    (device.root / "current" / "tiny@rpi4").write_text("spoiled by a card\n")
    assert device.store.activate("tiny@rpi4", first, after="")


def test_of_those_that_move_a_pointer_at_once_none_is_forgotten(tmp_path: Path) -> None:
    device = Device(tmp_path, 3)
    (device.root / "current" / "tiny@rpi4").unlink()
    (device.root / ".activate.999999999.edgeq-tmp").touch()  # of a shell that is gone
    threads = [threading.Thread(target=device.store.activate, args=("tiny@rpi4", one)) for one in device.ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(device.pointer()) == sorted(device.ids)
    assert not [path for path in device.root.iterdir() if path.name.startswith(".")]


def test_a_deployment_that_rotted_is_not_rolled_back_to(tmp_path: Path) -> None:
    device = Device(tmp_path, 2)
    rotten = device.root / "deployments" / device.ids[0] / "tiny.fp32.pte"
    rotten.chmod(0o644)
    rotten.write_bytes(b"rot")
    with pytest.raises(DamagedDeploymentError, match=r"tiny\.fp32\.pte"):
        roll_back(device.store, device.transport, "tiny", progress=Silent())
    assert device.pointer() == [device.ids[1], device.ids[0]]


def test_there_is_nothing_to_roll_back_to_behind_the_first_deployment(tmp_path: Path) -> None:
    device = Device(tmp_path, 1)
    with pytest.raises(NothingToRollBackError, match="tiny@rpi4"):
        roll_back(device.store, device.transport, "tiny", progress=Silent())
    with pytest.raises(UnknownNameError) as caught:
        roll_back(device.store, device.transport, "tinny@rpi4", progress=Silent())
    assert "tiny@rpi4" in caught.value.hint


def test_a_model_that_is_held_for_several_targets_is_named_with_one(tmp_path: Path) -> None:
    device = Device(tmp_path, 2)
    (device.root / "current" / "tiny@rpi5").write_bytes((device.root / "current" / "tiny@rpi4").read_bytes())
    with pytest.raises(SeveralTargetsError) as caught:
        roll_back(device.store, device.transport, "tiny", progress=Silent())
    assert caught.value.hint == "name one of tiny@rpi4, tiny@rpi5"
    assert roll_back(device.store, device.transport, "tiny@rpi5", progress=Silent()).active == device.ids[0]
    assert device.pointer() == [device.ids[1], device.ids[0]]


def test_cleaning_up_keeps_what_is_active_and_what_one_may_roll_back_to(tmp_path: Path) -> None:
    device = Device(tmp_path, 4)
    freed = clean_up(device.store, keep=2, progress=Silent())
    assert set(freed.deployments) == set(device.ids[:2])
    assert (freed.blobs, freed.freed_bytes) == (2, 200)  # what only those two had: everything else is shared
    assert device.pointer() == [device.ids[3], device.ids[2]]
    roll_back(device.store, device.transport, "tiny", progress=Silent())
    assert device.deploy(3) == device.ids[3]


def test_cleaning_up_removes_pushes_that_were_cut_and_blobs_of_none(tmp_path: Path) -> None:
    device = Device(tmp_path, 1)
    (device.root / "blobs" / ".abc.part").write_bytes(b"x")
    (device.root / "blobs" / ("0" * 64)).write_bytes(b"orphan")
    before = {path.name for path in (device.root / "blobs").iterdir()}
    freed = clean_up(device.store, keep=1, progress=Silent())
    assert (freed.deployments, freed.blobs, freed.freed_bytes) == ((), 1, 6)
    assert {path.name for path in (device.root / "blobs").iterdir()} == before - {".abc.part", "0" * 64}


def test_cleaning_up_without_hard_links_keeps_the_blobs_that_were_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ln").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "ln").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    device = Device(tmp_path, 2)
    freed = clean_up(device.store, keep=1, progress=Silent())
    assert (freed.deployments, freed.blobs) == ((device.ids[0],), 1)
    assert device.deploy(1) == device.ids[1]
