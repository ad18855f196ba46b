"""A tiny model on an emulated board: deployed, measured, and the board killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from device_help import SMALL_CONVNET, SMALL_SAMPLES, board_address, built, toml

from edgeq import pipeline
from edgeq.device import board
from edgeq.device.inventory import open_device
from edgeq.device.ssh import SshTransport
from edgeq.errors import (
    DeploymentGoneError,
    DeviceDiskFullError,
    DeviceError,
    IncompatibleBuildError,
    RunnerCrashedError,
    RunnerFailedError,
    UnwritableDeviceError,
    WrongArchitectureError,
)
from edgeq.integrity import read_golden
from edgeq.progress import Silent
from edgeq.stages.bench import read_measurements
from edgeq.stages.deployed import run_untimed
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.device.board import RunningBoard
    from edgeq.device.transport import Transport
    from edgeq.records import Artifact, Deployment
    from edgeq.stages.deploy import DeployResult

PROJECT = toml(recipes=["fp32", "int8-static"])


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Build:
    return built(tmp_path_factory.mktemp("tiny"), PROJECT, SMALL_CONVNET)


@pytest.fixture(scope="module")
def emulated(build: pipeline.Build) -> Iterator[RunningBoard]:
    """A board of this module's own, whatever others start and stop."""
    name = f"deploy-and-bench-{os.getpid()}"
    yield board.start(build.target, name=name, progress=Silent())
    if any(one.name == name for one in board.running()):
        board.stop(name)


@pytest.fixture
def device(emulated: RunningBoard) -> Iterator[SshTransport]:
    with contextlib.closing(_connect(emulated, user=emulated.user)) as transport:
        yield transport


def _connect(emulated: RunningBoard, *, user: str) -> SshTransport:
    return SshTransport.connect(board_address(emulated, user))


def _deploy(build: pipeline.Build, device: SshTransport) -> DeployResult:
    return pipeline.deploy(build, device, device="board", progress=Silent())


def test_a_second_deploy_moves_no_byte(build: pipeline.Build, device: SshTransport) -> None:
    first, second = _deploy(build, device), _deploy(build, device)
    assert first.transferred_bytes > sum(artifact.size_bytes for artifact in build.manifest.artifacts)
    assert second.transferred_bytes == 0
    assert second.deployment.id == first.deployment.id


def test_the_deployment_is_small_read_only_and_tidy(build: pipeline.Build, device: SshTransport) -> None:
    deployment = _deploy(build, device).deployment
    listed = device.run(["ls", "-ln", deployment.root]).stdout.decode().splitlines()
    files = {line.split()[-1]: line.split() for line in listed if line.startswith("-")}
    assert set(files) == set(deployment.files)
    assert all("w" not in fields[0] and int(fields[1]) == 2 for fields in files.values())
    assert not device.run(["find", ".edgeq", "-name", "*.edgeq-tmp"]).stdout
    assert deployment.device_facts.emulated
    assert deployment.device_facts.machine == "aarch64"


def test_rows_count_instructions_and_agree_with_the_host(build: pipeline.Build, device: SshTransport) -> None:
    _deploy(build, device)
    rows = pipeline.bench(build, device, pipeline.BenchOptions(), device="board", progress=Silent())
    assert {row.artifact for row in rows} == {artifact.name for artifact in build.manifest.artifacts}
    assert rows == read_measurements(build.path)[-len(rows) :]
    for row in rows:
        assert (row.timing, row.threads, row.total, row.labelled) == (
            "emulated",
            1,
            SMALL_SAMPLES,
            SMALL_SAMPLES * 3 // 4,
        )
        assert row.instructions is not None
        assert 10_000 < row.instructions < 10_000_000
        assert row.agreement_with_host is not None
        assert row.agreement_with_host >= SMALL_SAMPLES - 1
        assert row.peak_rss_bytes
    fp32 = [row for row in rows if ".fp32." in row.artifact]
    assert all(row.correct == row.labelled for row in fp32)


def test_the_instruction_count_is_the_same_the_next_time(build: pipeline.Build, device: SshTransport) -> None:
    _deploy(build, device)
    options = pipeline.BenchOptions(artifacts=("tiny.int8-static.pte",), samples=1)
    counts = [
        pipeline.bench(build, device, options, device="board", progress=Silent())[0].instructions for _ in range(2)
    ]
    assert counts[0] == pytest.approx(counts[1], rel=0.002)


def test_the_instructions_of_the_operators_are_those_of_the_inference(
    build: pipeline.Build, device: SshTransport
) -> None:
    _deploy(build, device)
    names = ("tiny.fp32.pte", "tiny.int8-static.pte", "tiny.int8-static.onnx")
    options = pipeline.BenchOptions(artifacts=names, samples=1, profile=True)
    first, second = (
        {row.artifact: row for row in pipeline.bench(build, device, options, device="board", progress=Silent())}
        for _ in range(2)
    )
    for name in names[:2]:
        row, again = first[name], second[name]
        assert row.instructions is not None
        assert row.profiled_instructions is not None
        assert row.profiled_instructions > row.instructions
        counted = [op for op in row.ops if op.instructions is not None and op.kind == "operator"]
        assert sum(op.instructions or 0 for op in row.ops) == row.instructions
        rest = row.ops[-1].instructions or 0
        assert 0 < rest < 40_000  # what ExecuTorch itself does, whatever the model
        convolutions = [op for op in counted if op.module in {"0", "2"} and "Conv" in op.kernel]
        assert {op.module for op in convolutions} == {"0", "2"}
        for op, other in zip(row.ops, again.ops, strict=True):
            assert op.name == other.name
            if op.kind == "operator":
                assert abs((op.instructions or 0) - (other.instructions or 0)) <= 600  # two ticks of XNNPACK's clock
    onnx = first["tiny.int8-static.onnx"]
    assert {op.instructions for op in onnx.ops} == {None}
    assert onnx.profiled_instructions is not None
    assert onnx.profiled_instructions > (onnx.instructions or 0) * 1.2  # why none of its nodes can be counted


def test_what_has_to_be_pushed_for_one_artifact_is_known(build: pipeline.Build, device: SshTransport) -> None:
    deployment = _deploy(build, device).deployment
    options = pipeline.BenchOptions(artifacts=("tiny.fp32.pte",), samples=1)
    (row,) = pipeline.bench(build, device, options, device="board", progress=Silent())
    there = device.run(["sh", "-c", f"cat {deployment.root}/*executorch* {deployment.root}/tiny.fp32.pte | wc -c"])
    assert row.pushed_bytes == int(there.stdout)


def test_a_build_for_another_kind_of_machine_is_refused(build: pipeline.Build, device: SshTransport) -> None:
    intel = replace(build, target=replace(build.target, triple="x86_64-linux-gnu"))
    with pytest.raises(WrongArchitectureError, match="aarch64"):
        _deploy(intel, device)


def test_a_build_that_does_not_fit_the_board_is_refused_in_one_message_and_nothing_is_pushed(
    build: pipeline.Build, device: SshTransport
) -> None:
    _deploy(build, device)
    before = device.run(["find", ".edgeq"]).stdout
    artifacts = [replace(one, requires=replace(one.requires, version="0.9.0")) for one in build.manifest.artifacts]
    other = replace(build, manifest=replace(build.manifest, artifacts=tuple(artifacts)))
    with pytest.raises(IncompatibleBuildError, match="2 reasons; nothing was pushed") as caught:
        pipeline.deploy(other, device, device="board", verify=True, progress=Silent())
    told = caught.value.detail.splitlines()
    assert all(word in line for word, line in zip(("executorch 0.9.0", "onnxruntime 0.9.0"), told, strict=True))
    assert device.run(["find", ".edgeq"]).stdout == before


def test_a_build_for_a_core_with_the_dot_product_gives_the_same_bits_on_one_without(
    build: pipeline.Build, device: SshTransport
) -> None:
    for_rpi5 = replace(build, target=load_target("rpi5"))
    with open_device("board", for_rpi5.target, progress=Silent()) as rpi5:
        with_it, without = _deploy(for_rpi5, rpi5).deployment, _deploy(for_rpi5, device).deployment
        for artifact in build.manifest.artifacts:
            assert _golden_output(build, artifact, rpi5, with_it) == _golden_output(build, artifact, device, without)
    assert with_it.warnings == ()
    (said,) = without.warnings
    assert "asimddp" in said
    assert "--target rpi4" in said


def _golden_output(build: pipeline.Build, artifact: Artifact, device: Transport, deployment: Deployment) -> bytes:
    given, _ = read_golden(build.path, artifact)
    outputs: list[bytes] = []
    run_untimed(device, deployment, artifact, (given,), lambda _, data: outputs.append(data), timeout_s=60.0)
    (output,) = outputs
    return output


def test_rows_hold_how_the_board_was_doing(build: pipeline.Build, device: SshTransport) -> None:
    _deploy(build, device)
    options = pipeline.BenchOptions(artifacts=("tiny.fp32.pte",), samples=1)
    (row,) = pipeline.bench(build, device, options, device="board", progress=Silent())
    assert row.device_facts.libstdcxx.startswith("3.4.")
    assert row.device_facts.loaders == ("/lib/ld-linux-aarch64.so.1",)
    assert len(row.states) == 2
    for state in row.states:
        assert state.available_bytes
        assert state.load is not None
        assert state.cpu_share is not None
        assert (state.celsius, state.throttled, state.clocks) == (None, None, ())


def test_a_board_that_fills_up_during_the_push_keeps_what_it_had(
    build: pipeline.Build, emulated: RunningBoard, device: SshTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(_connect(emulated, user="root")) as root:
        root.run(["mkdir", "-p", "/srv/small"])
        assert root.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=777", "none", "/srv/small"]).status == 0
    monkeypatch.setattr("edgeq.stages.deploy.store_root", lambda _: "/srv/small/root")
    with pytest.raises(DeviceDiskFullError, match="needed"):
        _deploy(build, device)
    monkeypatch.setattr(
        "edgeq.stages.deploy._SPARE_BYTES", -(1 << 40)
    )  # as if something else filled the disk meanwhile
    with pytest.raises(DeviceDiskFullError):
        _deploy(build, device)
    assert not device.run(["find", "/srv/small", "-name", "*.edgeq-tmp"]).stdout
    assert not device.run(["ls", "/srv/small/root/current"]).stdout


HUNGRY = """
import torch

def load():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 256, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)).eval()

def calibration():
    yield (torch.zeros(1, 3, 512, 512),)

def evaluation():
    yield (torch.zeros(1, 3, 512, 512),), 0
"""
"""A small file whose one layer makes 268 MB."""


def test_a_board_without_the_memory_for_a_model_says_so_and_what_was_active_is(
    build: pipeline.Build, tmp_path: Path
) -> None:
    project = PROJECT.replace("16, 16", "512, 512").replace('"pte", "onnx"', '"pte"').replace(', "int8-static"', "")
    hungry = built(tmp_path, project, HUNGRY)
    assert build.target.emulation is not None
    target = replace(build.target, emulation=replace(build.target.emulation, ram_mib=256))
    fewer = replace(build, manifest=replace(build.manifest, artifacts=build.manifest.artifacts[:1]))
    small = board.start(target, name=f"small-{os.getpid()}", progress=Silent())
    try:
        with contextlib.closing(_connect(small, user=small.user)) as device:
            first = _deploy(fewer, device).deployment.id
            with pytest.raises(RunnerFailedError, match=r"with tiny\.fp32\.pte ran out of memory") as caught:
                _deploy(hungry, device)
            assert (caught.value.code, caught.value.exit_code) == ("out_of_memory", 4)
            assert "smaller model" in caught.value.hint
            assert device.run(["head", "-n", "1", ".edgeq/current/tiny@rpi4"]).stdout.decode().strip() == first
            _fill_memory(small, leave_mib=16)
            with pytest.raises(DeviceError, match=r"ran out of memory|status 137"):
                _deploy(hungry, device)
            assert device.run(["head", "-n", "1", ".edgeq/current/tiny@rpi4"]).stdout.decode().strip() == first
            assert _deploy(fewer, device).transferred_bytes == 0
    finally:
        board.stop(small.name)


def _fill_memory(emulated: RunningBoard, *, leave_mib: int) -> None:
    script = """
    mkdir -p /srv/hog && mount -t tmpfs -o size=100% none /srv/hog
    kilobytes=$(($(grep MemAvailable /proc/meminfo | tr -dc 0-9) - $1 * 1024))
    dd if=/dev/zero of=/srv/hog/all bs=1k count="$kilobytes"
    """
    with contextlib.closing(_connect(emulated, user="root")) as root:
        assert root.run(["/bin/sh", "-c", script, "sh", str(leave_mib)]).status == 0


@pytest.mark.parametrize("moment", ["1999-01-01 00:00:00", "2037-12-31 23:59:59"])
def test_a_clock_that_jumps_changes_nothing_about_a_deployment(
    build: pipeline.Build, emulated: RunningBoard, device: SshTransport, moment: str
) -> None:
    first = _deploy(build, device)
    with contextlib.closing(_connect(emulated, user="root")) as root:
        now = root.run(["date", "-u", "+%Y-%m-%d %H:%M:%S"]).stdout.decode().strip()
        assert root.run(["date", "-u", "-s", moment]).status == 0
        try:
            again = _deploy(build, device)
            assert (again.transferred_bytes, again.deployment.id) == (0, first.deployment.id)
            fewer = replace(build, manifest=replace(build.manifest, artifacts=build.manifest.artifacts[:1]))
            assert _deploy(fewer, device).transferred_bytes == 0
            assert _deploy(build, device).transferred_bytes == 0
        finally:
            root.run(["date", "-u", "-s", now])


def test_a_runner_that_is_killed_while_it_tries_an_artifact_leaves_what_was_active(
    build: pipeline.Build, emulated: RunningBoard, device: SshTransport
) -> None:
    fewer = replace(build, manifest=replace(build.manifest, artifacts=build.manifest.artifacts[:1]))
    first = _deploy(fewer, device).deployment.id

    class Kills(Silent):
        def step(self, text: str) -> None:
            if text.startswith("trying"):
                threading.Thread(target=self._kill).start()

        def _kill(self) -> None:
            script = "while ! kill -9 $(pidof edgeq-runner-executorch edgeq-runner-onnxruntime) 2>/dev/null; do :; done"
            with contextlib.closing(_connect(emulated, user="root")) as root:
                root.run(["/bin/sh", "-c", script])

    with pytest.raises(RunnerCrashedError, match="137"):
        pipeline.deploy(build, device, device="board", verify=True, progress=Kills())
    active = device.run(["head", "-n", "1", ".edgeq/current/tiny@rpi4"]).stdout.decode().strip()
    assert active == first


def test_several_boards_are_worked_at_once_and_one_that_is_not_there_stops_nobody(
    build: pipeline.Build, emulated: RunningBoard, tmp_path: Path
) -> None:
    other = board.start(load_target("rpi3"), name=f"another-{os.getpid()}", progress=Silent())
    tables = [
        f'[{name}]\nhost = "127.0.0.1"\nport = {one.port}\nuser = "{one.user}"\nkey = "{one.key_path}"\n'
        for name, one in (("hall", emulated), ("attic", other))
    ]
    tables += ['[cellar]\nhost = "127.0.0.1"\nport = 1\n', '[house]\ndevices = ["hall", "attic", "cellar"]\n']
    (tmp_path / ".config" / "edgeq").mkdir(parents=True)
    (tmp_path / ".config" / "edgeq" / "devices.toml").write_text("".join(tables))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(
        "".join(f"[127.0.0.1]:{one.port} {one.host_key}\n" for one in (emulated, other))
    )
    cache = os.environ.get("EDGEQ_CACHE", str(Path.home() / ".cache/edgeq"))

    def deploy(*arguments: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "edgeq", "deploy", str(build.path), "--json", *arguments]
        home = {**os.environ, "HOME": str(tmp_path), "EDGEQ_CACHE": cache}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=home)
        return done.returncode, {row["device"]: row for row in json.loads(done.stdout)["devices"]}

    try:
        status, rows = deploy("--device", "house")
        states = {name: (row["state"], row["exit_code"]) for name, row in rows.items()}
        assert (status, states) == (4, {"hall": ("done", 0), "attic": ("done", 0), "cellar": ("failed", 4)})
        assert rows["attic"]["transferred_bytes"] > 0
        assert rows["attic"]["deployment"]["device_facts"]["cpu"] == "cortex-a53"
        status, rows = deploy("--device", "cellar,hall", "--canary", "1")
        assert (status, [row["state"] for row in rows.values()]) == (4, ["failed", "skipped"])
        status, rows = deploy("--device", "hall,attic", "--canary", "1")
        assert (status, [row["state"] for row in rows.values()]) == (0, ["done", "done"])
    finally:
        board.stop(other.name)


def test_a_board_that_forgot_the_deployment_is_told(build: pipeline.Build, device: SshTransport) -> None:
    _deploy(build, device)
    device.run(["mv", ".edgeq", "elsewhere"])
    try:
        with pytest.raises(DeploymentGoneError, match="not there"):
            pipeline.bench(build, device, pipeline.BenchOptions(), device="board", progress=Silent())
    finally:
        device.run(["mv", "elsewhere", ".edgeq"])


def test_this_machine_is_a_device_too(build: pipeline.Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", os.environ.get("EDGEQ_CACHE", str(Path.home() / ".cache/edgeq")))
    monkeypatch.setenv("HOME", str(tmp_path))
    with open_device("local", build.target, progress=Silent()) as local:
        pipeline.deploy(build, local, device="local", progress=Silent())
        options = pipeline.BenchOptions(repeats=20, threads=(1,), force=True)
        rows = pipeline.bench(build, local, options, device="local", progress=Silent())
    assert {(row.timing, row.instructions, row.agreement_with_host) for row in rows} == {("host", None, SMALL_SAMPLES)}


def test_files_of_another_owner_are_told_and_what_was_active_is(
    build: pipeline.Build, emulated: RunningBoard, device: SshTransport
) -> None:
    fewer = replace(build, manifest=replace(build.manifest, artifacts=build.manifest.artifacts[:1]))
    first = _deploy(fewer, device).deployment.id
    with contextlib.closing(_connect(emulated, user="root")) as root:
        store = f"/home/{emulated.user}/.edgeq"
        assert root.run(["chown", "-R", "root:root", store]).status == 0
        try:
            with pytest.raises(UnwritableDeviceError, match="denied"):
                _deploy(build, device)
        finally:
            assert root.run(["chown", "-R", emulated.user, store]).status == 0
    assert device.run(["head", "-n", "1", ".edgeq/current/tiny@rpi4"]).stdout.decode().strip() == first
    assert _deploy(build, device).deployment.id != first


def test_a_board_that_dies_in_the_middle_of_a_push_is_told(build: pipeline.Build) -> None:
    name = f"dies-{os.getpid()}"
    one = board.start(build.target, name=name, progress=Silent())

    class KillsTheBoard(Silent):
        def step(self, text: str) -> None:
            if text.startswith("pushing"):
                threading.Timer(0.05, os.kill, (one.pid, signal.SIGKILL)).start()

    with contextlib.closing(_connect(one, user=one.user)) as transport, pytest.raises(DeviceError) as caught:
        pipeline.deploy(build, transport, device="board", progress=KillsTheBoard())
    assert caught.value.exit_code == 4
    assert name not in {running.name for running in board.running()}


def test_a_board_killed_in_the_middle_of_bench_keeps_the_rows_before(
    build: pipeline.Build, device: SshTransport, emulated: RunningBoard
) -> None:
    _deploy(build, device)
    before = read_measurements(build.path)

    class KillsTheBoard(Silent):
        def step(self, text: str) -> None:
            if text.startswith("running") and "tiny.fp32.onnx" in text:
                threading.Timer(0.05, os.kill, (emulated.pid, signal.SIGKILL)).start()

    with pytest.raises(DeviceError) as caught:
        pipeline.bench(build, device, pipeline.BenchOptions(), device="board", progress=KillsTheBoard())
    assert caught.value.exit_code == 4
    assert "board" in caught.value.message
    rows = read_measurements(build.path)
    assert [row.artifact for row in rows[len(before) :]] == ["tiny.fp32.pte"]
