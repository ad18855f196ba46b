"""A push that is cut, killed, slowed or spoiled, over a real sshd: what ran before runs on, what came is kept."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import device_help
import pytest
from link import link
from sshd import Sshd, sshd

from edgeq import pipeline, runner
from edgeq.errors import DeviceError, RunnerFailedError, UnwritableDeviceError
from edgeq.files import sha256_file
from edgeq.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.stages.deploy import DeployResult

PROJECT = device_help.toml(target="host")

CODE = """
import torch

def load():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 14 * 14, 10)).eval()

def calibration():
    for seed in range(4):
        yield (torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)),)

def evaluation():
    for index, inputs in enumerate(calibration()):
        yield inputs, index
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Build:
    return device_help.built(tmp_path_factory.mktemp("tiny"), PROJECT, CODE)


@dataclass
class Shelf:
    """A device behind a real sshd: this machine, with a store of its own."""

    server: Sshd
    root: Path
    build: pipeline.Build

    @property
    def before(self) -> pipeline.Build:
        """A smaller build of the same model, for what is active before a push goes wrong."""
        return replace(self.build, manifest=replace(self.build.manifest, artifacts=self.build.manifest.artifacts[:1]))

    def at(self, port: int) -> None:
        """Let the name "shelf" lead to that port."""
        folder = self.server.home / ".config" / "edgeq"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "devices.toml").write_text(f'[shelf]\nhost = "127.0.0.1"\nport = {port}\nroot = "{self.root}"\n')
        (self.server.home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {self.server.public()}\n")

    def deploy(self, build: pipeline.Build) -> DeployResult:
        with pipeline.connected(build, "shelf") as transport:
            return pipeline.deploy(build, transport, device="shelf", progress=Silent())

    def active(self) -> str:
        return (self.root / "current" / "tiny@host").read_text().split()[0]

    def part_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.root / "blobs").iterdir())

    def await_rest(self) -> None:
        """Give what a cut left on the device the moment it takes to notice."""
        deadline = time.monotonic() + 30
        while list(self.root.rglob("*.edgeq-tmp")):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def check_whole(self, result: DeployResult) -> None:
        """Every file of the active deployment is there and right, and nothing half-made is."""
        self.check_runs(result)
        assert not [path for path in self.root.rglob(".*") if path.name != ".verified"]

    def check_runs(self, result: DeployResult) -> None:
        """That deployment is active, and every file of it is there and right."""
        assert self.active() == result.deployment.id
        folder = self.root / "deployments" / result.deployment.id
        assert {name: sha256_file(folder / name) for name in result.deployment.files} == result.deployment.files


@pytest.fixture
def shelf(built: pipeline.Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.setenv("EDGEQ_CACHE", os.environ.get("EDGEQ_CACHE", str(Path.home() / ".cache/edgeq")))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with sshd(tmp_path) as server:
        found = Shelf(server, tmp_path / "a store's root", built)
        found.at(server.port)
        yield found


@pytest.mark.parametrize("tenth", range(10))
def test_a_connection_that_is_cut_at_any_tenth_leaves_what_ran_before_and_the_next_push_goes_on(
    shelf: Shelf, tenth: int
) -> None:
    first = shelf.deploy(shelf.before)
    already = shelf.part_bytes()
    whole = _whole_push(shelf.build, first)
    with link(shelf.server.port, cut_after=20_000 + whole * tenth // 10) as way:
        shelf.at(way.port)
        with pytest.raises(DeviceError) as caught:
            shelf.deploy(shelf.build)
    assert caught.value.exit_code == 4
    shelf.check_runs(first)
    shelf.await_rest()
    arrived = shelf.part_bytes() - already
    assert arrived > whole * (tenth - 1) // 10
    shelf.at(shelf.server.port)
    again = shelf.deploy(shelf.build)
    assert again.transferred_bytes == whole - arrived
    shelf.check_whole(again)


def _whole_push(build: pipeline.Build, first: DeployResult) -> int:
    """The bytes that a push of the build moves when ``first`` is there."""
    bundle = runner.bundle("onnxruntime", f"{platform.machine()}-linux-gnu", progress=Silent())
    there = set(first.deployment.files.values())
    files = [*bundle.files.values(), build.path / build.manifest.artifacts[1].name]
    return sum(file.stat().st_size for file in files if sha256_file(file) not in there)


@pytest.mark.parametrize("stage", ["checking", "connecting", "pushing", "verifying", "trying", "activating"])
def test_an_edgeq_that_is_killed_at_any_stage_leaves_one_whole_deployment_active(shelf: Shelf, stage: str) -> None:
    first = shelf.deploy(shelf.before)
    command = [sys.executable, "-m", "edgeq", "deploy", str(shelf.build.path), "--device", "shelf"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        assert any(line.startswith(stage) for line in process.stderr), stage
        process.send_signal(signal.SIGKILL)
    again = shelf.deploy(shelf.build)
    assert shelf.active() == again.deployment.id
    ids = (shelf.root / "current" / "tiny@host").read_text().split()
    assert ids == [again.deployment.id, first.deployment.id]
    shelf.check_whole(again)


def test_a_slow_link_far_away_takes_longer_and_nothing_else(shelf: Shelf) -> None:
    with link(shelf.server.port, latency_s=0.15) as way:  # 300 ms for there and back
        shelf.at(way.port)
        first = shelf.deploy(shelf.before)
    shelf.check_whole(first)
    artifact = shelf.root / "blobs" / shelf.build.manifest.artifacts[0].sha256
    artifact.unlink()
    (shelf.root / "deployments" / first.deployment.id / shelf.build.manifest.artifacts[0].name).unlink()
    with link(shelf.server.port, bytes_per_s=50_000, latency_s=0.15) as way:
        shelf.at(way.port)
        again = shelf.deploy(shelf.before)
    assert again.transferred_bytes == shelf.build.manifest.artifacts[0].size_bytes
    shelf.check_whole(again)


def test_a_blob_that_is_damaged_after_deployment_is_noticed_and_mended(shelf: Shelf) -> None:
    first = shelf.deploy(shelf.build)
    artifact = shelf.build.manifest.artifacts[1]
    blob = shelf.root / "blobs" / artifact.sha256
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    again = shelf.deploy(shelf.build)
    assert (again.unchanged, again.transferred_bytes) == (False, artifact.size_bytes)
    assert again.deployment.id == first.deployment.id
    shelf.check_whole(again)


def test_a_model_that_the_runner_cannot_load_is_never_active(shelf: Shelf) -> None:
    first = shelf.deploy(shelf.before)
    artifact = shelf.build.manifest.artifacts[0]
    broken = shelf.build.path.with_name("broken")
    subprocess.run(["cp", "-r", str(shelf.build.path), str(broken)], check=True)
    content = bytearray((broken / artifact.name).read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    (broken / artifact.name).write_bytes(content)
    spoiled = replace(artifact, sha256=sha256_file(broken / artifact.name))
    manifest = replace(shelf.build.manifest, artifacts=(spoiled,))
    with pytest.raises(RunnerFailedError):
        shelf.deploy(replace(shelf.build, path=broken, manifest=manifest))
    assert shelf.active() == first.deployment.id


def test_a_store_that_belongs_to_somebody_else_is_told(shelf: Shelf) -> None:
    shelf.root = Path("/proc/edgeq")
    shelf.at(shelf.server.port)
    with pytest.raises((UnwritableDeviceError, DeviceError)) as caught:
        shelf.deploy(shelf.build)
    assert "/proc/edgeq" in caught.value.message


def test_two_that_deploy_at_once_both_end_and_nothing_is_torn(shelf: Shelf) -> None:
    done: list[DeployResult] = []
    failed: list[BaseException] = []

    def work(build: pipeline.Build) -> None:
        try:
            done.append(shelf.deploy(build))
        except BaseException as error:  # noqa: BLE001  # asserted on below
            failed.append(error)

    builds = [shelf.build, shelf.build, shelf.before]
    threads = [threading.Thread(target=work, args=(build,)) for build in builds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    ids = {one.deployment.id for one in done}
    assert set((shelf.root / "current" / "tiny@host").read_text().split()) == ids
    shelf.check_whole(next(one for one in done if one.deployment.id == shelf.active()))


def test_the_command_line_lists_rolls_back_and_cleans_up(shelf: Shelf) -> None:
    first = shelf.deploy(shelf.before)
    second = shelf.deploy(shelf.build)

    def edgeq(*arguments: str) -> Any:
        command = [sys.executable, "-m", "edgeq", *arguments, "--device", "shelf", "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    listed = edgeq("deploy", "--list")["deployments"]
    assert [(row["id"], row["active"]) for row in listed] == [
        (second.deployment.id, True), (first.deployment.id, False),
    ]  # fmt: skip
    rolled = edgeq("rollback", "tiny")
    assert (rolled["active"], rolled["before"]) == (first.deployment.id, second.deployment.id)
    assert edgeq("deploy", str(shelf.build.path))["transferred_bytes"] == 0
    freed = edgeq("gc", "--keep", "1")
    assert freed["deployments"] == [first.deployment.id]
    assert [row["id"] for row in edgeq("deploy", "--list")["deployments"]] == [second.deployment.id]
