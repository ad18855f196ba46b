from __future__ import annotations

import json
import os
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgeq.device.store import Store
from edgeq.errors import (
    ConfigError,
    ConnectionLostError,
    CorruptArtifactError,
    DamagedTransferError,
    DeviceBusyError,
    DeviceDiskFullError,
    NotDeployedError,
    RunnerCrashedError,
    UnwritableDeviceError,
    WrongArchitectureError,
    WrongOutputError,
)
from edgeq.files import sha256_file
from edgeq.progress import Silent
from edgeq.records import Manifest
from edgeq.runner import RunnerBundle
from edgeq.stages.deploy import DeployResult, deploy, deployment_path, read_deployment
from edgeq.testing import FakeTransport, sample_bundle, sample_target, tiny_build


@dataclass
class Setup:
    build: Path
    manifest: Manifest
    device: FakeTransport
    bundle: RunnerBundle
    store: Path

    def deploy(
        self, *, name: str = "fake", verify: bool = False, activate: bool = True, smoke: bool = True
    ) -> DeployResult:
        return deploy(
            self.build,
            self.manifest,
            sample_target(),
            self.device,
            {"executorch": self.bundle},
            device=name,
            verify=verify,
            activate=activate,
            smoke=smoke,
            progress=Silent(),
        )

    def active(self) -> list[str]:
        return (self.store / "current" / "tiny@rpi4").read_text().split()

    def leftovers(self) -> list[str]:
        return [path.name for path in self.store.rglob("*.edgeq-tmp")]

    def files(self, deployment: str) -> dict[str, str]:
        """What lies in the folder of a deployment, with its hash."""
        folder = self.store / "deployments" / deployment
        return {path.name: sha256_file(path) for path in folder.iterdir() if path.name != ".verified"}

    def change(self) -> None:
        """Make this another build."""
        name = self.manifest.artifacts[0].name
        (self.build / name).write_bytes(b"changed" * 100)
        digest = sha256_file(self.build / name)
        first = replace(self.manifest.artifacts[0], sha256=digest)
        self.manifest = replace(self.manifest, artifacts=(first, *self.manifest.artifacts[1:]))


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    manifest = tiny_build(tmp_path / "build")
    device = FakeTransport(tmp_path / "device")
    return Setup(tmp_path / "build", manifest, device, sample_bundle(tmp_path / "bundle"), tmp_path / "device/.edgeq")


def test_everything_lies_on_the_device_under_its_name(setup: Setup) -> None:
    result = setup.deploy()
    folder = setup.store / "deployments" / result.deployment.id
    assert result.deployment.root == f".edgeq/deployments/{result.deployment.id}"
    assert setup.files(result.deployment.id) == result.deployment.files
    assert result.transferred_bytes == sum((folder / name).stat().st_size for name in result.deployment.files)
    assert os.access(folder / "edgeq-runner-executorch", os.X_OK)
    assert (folder / "tiny.fp32.pte").stat().st_nlink == 2
    assert setup.active() == [result.deployment.id]
    assert not setup.leftovers()


def test_the_record_says_what_lies_where(setup: Setup) -> None:
    result = setup.deploy()
    assert read_deployment(setup.build, "fake") == result.deployment
    assert result.deployment.artifacts == {one.name: one.sha256 for one in setup.manifest.artifacts}
    assert result.deployment.runners == {"executorch": setup.bundle.sha256}
    assert result.deployment.device_facts.cpu == "cortex-a72"


def test_deploying_the_same_again_moves_nothing(setup: Setup) -> None:
    first = setup.deploy()
    pushed = len(setup.device.pushed)
    second = setup.deploy()
    assert second.transferred_bytes == 0
    assert second.deployment.id == first.deployment.id
    assert len(setup.device.pushed) == pushed
    assert setup.active() == [first.deployment.id]


def test_only_what_changed_travels_and_the_older_deployment_stays(setup: Setup) -> None:
    first = setup.deploy()
    setup.change()
    second = setup.deploy()
    assert second.transferred_bytes == 700
    assert setup.active() == [second.deployment.id, first.deployment.id]
    assert setup.files(first.deployment.id) == first.deployment.files


def test_what_is_only_to_be_measured_lies_there_and_what_was_active_stays_so(setup: Setup) -> None:
    first = setup.deploy()
    setup.change()
    second = setup.deploy(activate=False)
    assert setup.files(second.deployment.id) == second.deployment.files
    assert setup.active() == [first.deployment.id]
    third = setup.deploy()
    assert (third.deployment.id, third.transferred_bytes, third.unchanged) == (second.deployment.id, 0, False)
    assert setup.active() == [second.deployment.id, first.deployment.id]


def test_the_pointer_moves_back_when_an_older_build_is_deployed_again(setup: Setup) -> None:
    first = setup.deploy()
    older = setup.manifest, (setup.build / "tiny.fp32.pte").read_bytes()
    setup.change()
    second = setup.deploy()
    setup.manifest = older[0]
    (setup.build / "tiny.fp32.pte").write_bytes(older[1])
    assert setup.deploy().transferred_bytes == 0
    assert setup.active() == [first.deployment.id, second.deployment.id]


def test_what_is_not_tried_there_is_not_recorded(setup: Setup) -> None:
    setup.device.answer = lambda _model, sample: bytes(len(sample))
    with pytest.raises(WrongOutputError):
        setup.deploy(activate=False)
    result = setup.deploy(activate=False, smoke=False)
    assert setup.files(result.deployment.id) == result.deployment.files
    with pytest.raises(NotDeployedError):
        read_deployment(setup.build, "fake")


def test_an_artifact_that_is_not_the_one_built_is_refused_before_anything_is_pushed(setup: Setup) -> None:
    with (setup.build / "tiny.int8-static.pte").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CorruptArtifactError, match="sha256") as caught:
        setup.deploy()
    assert caught.value.exit_code == 2
    assert not setup.device.pushed


def test_an_artifact_that_is_gone_is_refused(setup: Setup) -> None:
    (setup.build / "tiny.int8-static.pte").unlink()
    with pytest.raises(CorruptArtifactError, match="missing"):
        setup.deploy()


def test_a_build_without_its_golden_output_is_refused_before_anything_is_pushed(setup: Setup) -> None:
    (setup.build / "golden" / f"{setup.manifest.artifacts[0].golden.output_sha256}.bin").unlink()
    with pytest.raises(CorruptArtifactError, match="golden"):
        setup.deploy()
    assert not setup.device.pushed


def test_a_manifest_cannot_reach_outside_its_build(setup: Setup) -> None:
    (setup.build.parent / "secret").write_bytes(b"x")
    first = replace(setup.manifest.artifacts[0], name="../secret", sha256=sha256_file(setup.build.parent / "secret"))
    setup.manifest = replace(setup.manifest, artifacts=(first,))
    with pytest.raises(CorruptArtifactError):
        setup.deploy()


def test_a_device_of_another_kind_is_refused_before_anything_is_pushed(setup: Setup, tmp_path: Path) -> None:
    setup.device = FakeTransport(tmp_path / "device", facts="=== machine\nx86_64\n")
    with pytest.raises(WrongArchitectureError, match="x86_64"):
        setup.deploy()
    assert not setup.device.pushed


def test_too_little_room_is_told_before_anything_is_pushed(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.stages.deploy._SPARE_BYTES", 1 << 60)
    with pytest.raises(DeviceDiskFullError, match="are free"):
        setup.deploy()
    assert not setup.device.pushed


def test_a_disk_that_fills_up_all_the_same_leaves_the_old_deployment_active(setup: Setup) -> None:
    first = setup.deploy()
    setup.change()
    setup.device.faults.full_after_bytes = 0
    with pytest.raises(DeviceDiskFullError):
        setup.deploy()
    assert setup.active() == [first.deployment.id]


@pytest.mark.parametrize("cut_after_bytes", [0, 500, 1500, 3000, 5000])
def test_a_cut_at_any_file_is_mended_by_the_next_deploy(setup: Setup, tmp_path: Path, cut_after_bytes: int) -> None:
    setup.device.faults.cut_after_bytes = cut_after_bytes
    with pytest.raises(ConnectionLostError):
        setup.deploy()
    assert not (setup.store / "current" / "tiny@rpi4").exists()
    assert not deployment_path(setup.build, "fake").exists()

    already = sum(path.stat().st_size for path in (setup.store / "blobs").iterdir())
    setup.device = FakeTransport(tmp_path / "device")
    again = setup.deploy()
    folder = setup.store / "deployments" / again.deployment.id
    assert again.transferred_bytes == sum((folder / name).stat().st_size for name in again.deployment.files) - already
    assert setup.files(again.deployment.id) == again.deployment.files
    assert not list((setup.store / "blobs").glob(".*"))


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_makes_is_not(setup: Setup) -> None:
    (setup.store / "blobs").mkdir(parents=True)
    (setup.store / "deployments" / ".0123.999999999.edgeq-tmp").mkdir(parents=True)
    (setup.store / "blobs" / ".abc.999999999.edgeq-tmp").write_bytes(b"begun")
    with subprocess.Popen(("/bin/sh", "-c", "read -r _ # a push to .edgeq-tmp"), stdin=subprocess.PIPE) as living:
        (setup.store / "blobs" / f".def.{living.pid}.edgeq-tmp").touch()
        setup.deploy()
        assert setup.leftovers() == [f".def.{living.pid}.edgeq-tmp"]
    assert (setup.store / "blobs" / ".abc.part").exists()


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(setup: Setup) -> None:
    (setup.store / "blobs").mkdir(parents=True)
    (setup.store / "blobs" / f".abc.{os.getpid()}.edgeq-tmp").touch()
    setup.deploy()
    assert not setup.leftovers()


def test_the_beginning_of_a_blob_that_is_not_what_it_says_costs_its_push_and_no_more(setup: Setup) -> None:
    artifact = setup.manifest.artifacts[0]
    (setup.store / "blobs").mkdir(parents=True)
    (setup.store / "blobs" / f".{artifact.sha256}.part").write_bytes(b"rot" * 30)
    result = setup.deploy()
    assert setup.files(result.deployment.id) == result.deployment.files
    assert setup.device.pushed.count(f".edgeq/blobs/{artifact.sha256}") == 2


def test_a_deployment_that_was_touched_is_hashed_again_and_one_that_was_not_is_not(setup: Setup) -> None:
    def hashed() -> int:
        return sum(argv[1] == "hash" for argv in setup.device.ran if len(argv) > 1)

    folder = setup.store / "deployments" / setup.deploy().deployment.id
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    assert not setup.deploy().unchanged
    once = hashed()
    assert setup.deploy().unchanged
    assert hashed() == once
    assert not setup.deploy(verify=True).unchanged
    assert hashed() == once + 1
    os.utime(folder / "tiny.fp32.pte", (2, 2))
    assert not setup.deploy().unchanged
    assert hashed() == once + 2
    os.utime(folder / "tiny.fp32.pte")  # in the second of the note, if the test is quick
    assert not setup.deploy().unchanged


def test_an_artifact_that_computes_something_else_there_is_never_activated(setup: Setup) -> None:
    first = setup.deploy()
    setup.change()
    setup.device.answer = lambda _model, sample: bytes(len(sample))
    with pytest.raises(WrongOutputError, match="gives another output"):
        setup.deploy()
    assert setup.active() == [first.deployment.id]


def test_another_edgeq_that_removes_is_waited_for_and_one_that_adds_is_not(setup: Setup) -> None:
    store = Store(setup.device, ".edgeq")
    with store.opened(Silent()):
        setup.deploy()
        with pytest.raises(DeviceBusyError), store.opened(Silent(), alone=True, patience_s=0):
            pass
    with store.opened(Silent(), alone=True), pytest.raises(DeviceBusyError), store.opened(Silent(), patience_s=0):
        pass
    with store.opened(Silent(), alone=True):
        pass
    assert not setup.leftovers()


def test_who_waits_goes_on_when_the_other_is_done(setup: Setup) -> None:
    store = Store(setup.device, ".edgeq")
    steps: list[str] = []

    class Heard(Silent):
        def step(self, text: str) -> None:
            steps.append(text)
            over.set()

    over = threading.Event()
    opened = threading.Event()

    def first() -> None:
        with store.opened(Silent(), alone=True):
            opened.set()
            over.wait(30)

    holder = threading.Thread(target=first)
    holder.start()
    assert opened.wait(30)
    with store.opened(Heard()) as contents:
        assert contents.blobs == {}
    holder.join()
    assert steps == ["waiting for another edgeq that uses the device"]


def test_a_blob_that_rotted_on_the_device_is_replaced(setup: Setup) -> None:
    result = setup.deploy()
    artifact = setup.manifest.artifacts[1]
    blob = setup.store / "blobs" / artifact.sha256
    blob.chmod(0o644)
    blob.write_bytes(bytes(blob.stat().st_size))
    assert setup.deploy().transferred_bytes == artifact.size_bytes
    assert sha256_file(setup.store / "deployments" / result.deployment.id / artifact.name) == artifact.sha256


def test_a_file_damaged_on_its_way_is_sent_again(setup: Setup) -> None:
    setup.device.faults.damages = {setup.manifest.artifacts[0].sha256}
    setup.deploy()
    assert setup.device.pushed.count(f".edgeq/blobs/{setup.manifest.artifacts[0].sha256}") == 2


def test_a_file_damaged_twice_is_never_activated(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = setup.manifest.artifacts[0]
    original = setup.device.put

    def put(local: Path, remote: str, *, mode: int = 0o644, start: int = 0) -> None:
        setup.device.faults.damages = {damaged.sha256}
        original(local, remote, mode=mode, start=start)

    monkeypatch.setattr(setup.device, "put", put)
    with pytest.raises(DamagedTransferError, match=damaged.name):
        setup.deploy()
    assert not (setup.store / "current" / "tiny@rpi4").exists()


def test_a_runner_that_does_not_start_is_never_activated(setup: Setup) -> None:
    setup.device.faults.runner_status = 127
    with pytest.raises(RunnerCrashedError):
        setup.deploy()
    assert not (setup.store / "current" / "tiny@rpi4").exists()


def test_a_deployment_folder_that_was_damaged_is_made_again(setup: Setup) -> None:
    result = setup.deploy()
    folder = setup.store / "deployments" / result.deployment.id
    (folder / "edgeq-runner-executorch").unlink()
    setup.deploy()
    assert setup.files(result.deployment.id) == result.deployment.files


def test_a_device_without_hard_links_gets_copies(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ln").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "ln").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    result = setup.deploy()
    folder = setup.store / "deployments" / result.deployment.id
    assert setup.files(result.deployment.id) == result.deployment.files
    assert (folder / "tiny.fp32.pte").stat().st_nlink == 1
    assert os.access(folder / "edgeq-runner-executorch", os.X_OK)


def test_a_root_that_cannot_be_written_is_told(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.stages.deploy.store_root", lambda _: "/sys/edgeq")
    with pytest.raises(UnwritableDeviceError, match="/sys/edgeq"):
        setup.deploy()


def test_a_root_with_an_awkward_name_works(setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = "~/a 'strange' \"root\" ü"
    monkeypatch.setattr("edgeq.stages.deploy.store_root", lambda _: root)
    result = setup.deploy()
    assert (tmp_path / "device" / result.deployment.root / "tiny.fp32.pte").is_file()
    assert setup.deploy().transferred_bytes == 0


def test_devices_with_names_that_look_alike_have_records_of_their_own(setup: Setup) -> None:
    names = ("ssh://pi@rpi:22", "ssh:/pi@rpi:22", "../x", "ssh://[::1]")
    paths = [deployment_path(setup.build, name) for name in names]
    assert len(set(paths)) == len(names)
    assert all(path.parent == setup.build / "deployments" for path in paths)


def test_a_build_that_was_not_deployed_is_an_error_with_the_command(setup: Setup) -> None:
    with pytest.raises(NotDeployedError) as caught:
        read_deployment(setup.build, "kitchen")
    assert "edgeq deploy" in caught.value.hint


def test_a_damaged_record_is_an_error(setup: Setup) -> None:
    setup.deploy()
    path = deployment_path(setup.build, "fake")
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ConfigError, match="damaged"):
        read_deployment(setup.build, "fake")
    path.write_text(json.dumps({"schema": 1}))
    with pytest.raises(ConfigError, match="damaged"):
        read_deployment(setup.build, "fake")
