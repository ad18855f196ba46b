"""Boards of 32 bits, emulated: their own kernel, and 32-bit programs under a 64-bit one; ONNX Runtime on both."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from device_help import SMALL_CONVNET, SMALL_SAMPLES, board_address, built, toml

from edgeq import pipeline
from edgeq.device import board
from edgeq.device.ssh import SshTransport
from edgeq.errors import IncompatibleBuildError, WrongArchitectureError
from edgeq.progress import Silent
from edgeq.runner import build as runner_build
from edgeq.runner import bundle
from edgeq.stages.compatibility import ONNX_LIMITS
from edgeq.stages.doctor.device import examine
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.target import Target

ARMV7 = "arm-linux-gnueabihf"
PROJECT = toml(target="generic-armv7", formats=["onnx"], recipes=["fp32", "int8-static"])


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Build:
    return built(tmp_path_factory.mktemp("tiny"), PROJECT, SMALL_CONVNET)


@contextlib.contextmanager
def _board(target: Target) -> Iterator[SshTransport]:
    """A board of this module's own, whatever others start and stop, and a way to it."""
    name = f"armv7-{target.name}-{os.getpid()}"
    emulated = board.start(target, name=name, progress=Silent())
    try:
        with contextlib.closing(SshTransport.connect(board_address(emulated, emulated.user))) as transport:
            yield transport
    finally:
        board.stop(name)


@pytest.fixture(scope="module")
def rpi2() -> Iterator[SshTransport]:
    """A kernel of 32 bits on a core of 32 bits."""
    with _board(load_target("rpi2")) as transport:
        yield transport


@pytest.fixture(scope="module")
def mixed() -> Iterator[SshTransport]:
    """A kernel of 64 bits, and no program there that is not of 32."""
    with _board(load_target("generic-armv7")) as transport:
        yield transport


def _measured(build: pipeline.Build, device: SshTransport) -> dict[str, int | None]:
    """Deploy and bench there; the instructions of each artifact, all of whose answers must be the build machine's."""
    deployed = pipeline.deploy(build, device, device="board", progress=Silent())
    assert any("onnxruntime is" in warning for warning in deployed.deployment.warnings)
    rows = pipeline.bench(build, device, pipeline.BenchOptions(repeats=3), device="board", progress=Silent())
    assert {row.artifact for row in rows} == {artifact.name for artifact in build.manifest.artifacts}
    # A build machine of x86 without VNNI cuts sums of uint8 by int8 that a board does not.
    cpuinfo = Path("/proc/cpuinfo").read_text()
    exact = "sse2" not in cpuinfo or "vnni" in cpuinfo
    for row in rows:
        assert (row.timing, row.total) == ("emulated", SMALL_SAMPLES)
        assert row.agreement_with_host == SMALL_SAMPLES or (not exact and "int8" in row.artifact)
        assert row.peak_rss_bytes
    return {row.artifact: row.instructions for row in rows}


def test_int8_runs_on_a_32_bit_core_as_on_the_build_machine_and_no_counter_is_made_up(
    build: pipeline.Build, rpi2: SshTransport
) -> None:
    assert rpi2.run(["uname", "-m"]).stdout == b"armv7l\n"
    assert set(_measured(build, rpi2).values()) == {None}


def test_under_a_64_bit_kernel_the_32_bit_runner_is_taken_and_counts_instructions(
    build: pipeline.Build, mixed: SshTransport
) -> None:
    assert mixed.run(["uname", "-m"]).stdout == b"aarch64\n"
    assert all(count and 10_000 < count < 10_000_000 for count in _measured(build, mixed).values())


@pytest.mark.parametrize(("name", "word"), [("rpi2", "32-bit programs:"), ("mixed", "under a 64-bit kernel")])
def test_a_doctor_tells_which_programs_run_there_and_finds_nothing_that_stops_them(
    name: str, word: str, request: pytest.FixtureRequest
) -> None:
    found = examine(request.getfixturevalue(name), "board", target=load_target("generic-armv7"))
    said = {one.code: one for one in found.findings}
    assert word in said["device.machine"].text
    assert found.facts.libstdcxx
    assert found.facts.loaders == ("/lib/ld-linux-armhf.so.3",)
    assert not [one for one in found.findings if one.severity == "problem"]


def test_a_64_bit_build_is_refused_there_before_anything_is_pushed(
    build: pipeline.Build, rpi2: SshTransport, mixed: SshTransport
) -> None:
    other = replace(build, target=load_target("rpi4"))
    with pytest.raises(WrongArchitectureError) as wrong:
        pipeline.deploy(other, rpi2, device="board", progress=Silent())
    assert "--target rpi2 --format onnx" in wrong.value.hint
    with pytest.raises(IncompatibleBuildError) as unfit:
        pipeline.deploy(other, mixed, device="board", progress=Silent())
    assert "--target generic-armv7 --format onnx" in unfit.value.hint


def test_its_onnx_runtime_reads_what_the_table_says_and_nothing_newer(tmp_path: Path, mixed: SshTransport) -> None:
    import onnx
    from onnx import TensorProto, helper

    built_runner = bundle("onnxruntime", ARMV7, progress=Silent())
    for name, path in built_runner.files.items():
        mixed.put(path, f"limits/{name}", mode=0o755)
    limits = ONNX_LIMITS[built_runner.runtime_version]
    cases = ((limits.ir, limits.opsets[""], True), (limits.ir + 1, 20, False), (10, limits.opsets[""] + 1, False))
    for ir_version, opset, loads in cases:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", values[:1], values[1:])
        opsets = [helper.make_opsetid("", opset)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), tmp_path / "a.onnx")
        mixed.put(tmp_path / "a.onnx", "limits/a.onnx")
        run = [f"./limits/{built_runner.executable}", "run", "--model", "limits/a.onnx", "--repeats", "1"]
        done = mixed.run(run, stdin=[bytes(4)])
        assert (done.status == 0) is loads, done.stdout


def test_the_runners_own_tests_of_sizes_pass_on_a_32_bit_core(tmp_path: Path, rpi2: SshTransport) -> None:
    sysroot = runner_build._unpacked(runner_build.SYSROOTS[ARMV7], Silent())
    sources = runner_build.sources_dir()
    configure = ["cmake", "-S", str(sources), "-B", str(tmp_path), "-DEDGEQ_TESTS=ON", f"-DEDGEQ_TRIPLE={ARMV7}"]
    configure += [f"-DCMAKE_TOOLCHAIN_FILE={sources / 'cmake' / 'debian-cross.cmake'}", f"-DEDGEQ_SYSROOT={sysroot}"]
    names = ("arguments_test", "tensor_test", "memory_test")
    for argv in (configure, ["cmake", "--build", str(tmp_path), "--parallel", "2", "--target", *names]):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        rpi2.put(tmp_path / name, f"tests/{name}", mode=0o755)
        ran = rpi2.run([f"./tests/{name}"])
        assert ran.status == 0, ran.stdout + ran.stderr
