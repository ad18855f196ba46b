from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import (
    DeviceDiskFullError,
    IncompatibleBuildError,
    IncompatibleDeviceError,
    WrongArchitectureError,
)
from edgeq.progress import Silent
from edgeq.records import Artifact, DeviceFacts, Manifest, Requires
from edgeq.stages.bench.rows import append
from edgeq.stages.compatibility import (
    Room,
    mismatches,
    missing_features,
    other_runtimes,
    require_compatible,
    slower_kernels,
)
from edgeq.stages.compatibility.onnx_header import OnnxHeader, read_header
from edgeq.stages.deploy import deploy, read_deployment
from edgeq.target import Target, load_target
from edgeq.testing import (
    FakeTransport,
    sample_artifact,
    sample_bundle,
    sample_facts,
    sample_library,
    sample_measurement,
    sample_target,
    tiny_build,
)
from edgeq.triple import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeq.runner import RunnerBundle

RPI5 = load_target("rpi5")


class Case:
    """A build, its runner and a device that fit, until a test changes one of them."""

    def __init__(self, folder: Path) -> None:
        self.build = folder / "build"
        self.manifest: Manifest = tiny_build(self.build)
        self.bundle: RunnerBundle = sample_bundle(folder / "bundle")
        self.target: Target = sample_target()
        self.facts: DeviceFacts = replace(
            sample_facts(),
            libstdcxx="3.4.30",
            loaders=("/lib/ld-linux-aarch64.so.1",),
            available_bytes=3 << 30,
            swap_free_bytes=0,
        )
        self.libraries(b"aten::add.out\0XnnpackBackend\0", versions=("GLIBC_2.17", "GLIBC_2.28", "GLIBCXX_3.4.22"))

    def libraries(self, names: bytes, *, versions: Sequence[str] = ("GLIBC_2.28",)) -> None:
        for path in self.bundle.files.values():
            path.write_bytes(sample_library(*versions) + b"\0" + names)

    def requires(self, **changes: object) -> None:
        artifacts = [replace(one, requires=replace(one.requires, **changes)) for one in self.manifest.artifacts]
        self.manifest = replace(self.manifest, artifacts=tuple(artifacts))

    def found(self) -> list[str]:
        bundles = {self.bundle.engine: self.bundle}
        found = list(mismatches(self.build, self.manifest, self.target, bundles, self.facts))
        assert all(one.remedy for one in found)
        return [one.text for one in found]

    def require(self, room: Room | None = None) -> None:
        bundles = {self.bundle.engine: self.bundle}
        require_compatible(self.build, self.manifest, self.target, bundles, self.facts, device="kitchen", room=room)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_what_fits_raises_nothing(case: Case) -> None:
    case.requires(ops=("aten::add.out",), backends=("XnnpackBackend",), version="1.5.1+cpu", glibc="2.17")
    assert case.found() == []
    case.require(Room(root=".edgeq", needed_bytes=10, free_bytes=10))


def test_what_a_device_does_not_say_is_no_mismatch(case: Case) -> None:
    case.facts = DeviceFacts(machine="aarch64")
    case.target = RPI5
    case.requires(version="", ops=(), backends=())
    assert case.found() == []


def test_another_runtime_than_the_one_built_for_is_told_with_both(case: Case) -> None:
    case.requires(version="1.4.0")
    (said,) = case.found()
    assert "tiny.fp32.pte, tiny.int8-static.pte were built for executorch 1.4.0" in said
    assert "executorch 1.5.1" in said
    with pytest.raises(IncompatibleBuildError, match=r"1\.4\.0") as caught:
        case.require()
    assert "edgeq build PROJECT --target rpi4" in caught.value.hint


def test_an_operator_that_no_library_of_the_runner_registers_is_told(case: Case) -> None:
    case.requires(ops=("aten::add.out", "aten::add", "aten::fft.out"))
    assert [said.split("operator ")[1].split(",")[0] for said in case.found()] == ["aten::add", "aten::fft.out"]


def test_a_backend_that_the_runner_does_not_carry_is_told(case: Case) -> None:
    case.requires(backends=("XnnpackBackend", "VulkanBackend"))
    (said,) = case.found()
    assert "the backend VulkanBackend" in said


def test_libraries_that_cannot_be_read_decide_nothing(case: Case) -> None:
    for path in case.bundle.files.values():
        path.write_bytes(b"no library")
    case.requires(ops=("aten::fft.out",), backends=("VulkanBackend",))
    assert case.found() == []


@pytest.mark.parametrize(
    ("libc", "expected"),
    [("glibc 2.27", True), ("glibc 2.28", False), ("glibc 2.4", True), ("musl 1.2.4", True), ("", False)],
)
def test_the_c_library_must_be_new_enough(case: Case, libc: str, expected: bool) -> None:
    case.facts = replace(case.facts, libc=libc)
    assert [f"that device has {libc}" in said for said in case.found()] == [True] * expected


def test_an_artifact_may_need_a_newer_c_library_than_its_runner(case: Case) -> None:
    case.requires(glibc="2.40")
    (said,) = case.found()
    assert "needs glibc 2.40" in said


@pytest.mark.parametrize(("newest", "expected"), [("3.4.21", True), ("3.4.22", False), ("3.4.9", True), ("", False)])
def test_the_cxx_library_must_be_new_enough(case: Case, newest: str, expected: bool) -> None:
    case.facts = replace(case.facts, libstdcxx=newest)
    assert len(case.found()) == expected


def test_a_64_bit_kernel_below_32_bit_programs_is_told(case: Case) -> None:
    case.facts = replace(case.facts, loaders=("/lib/ld-linux-armhf.so.3",), libc="glibc 2.24")
    (said,) = case.found()
    assert "/lib/ld-linux-armhf.so.3" in said


def test_android_is_told_that_it_has_no_runner_before_anything_is_pushed(case: Case) -> None:
    case.facts = replace(case.facts, loaders=("/system/bin/linker64",), libc="")
    with pytest.raises(IncompatibleDeviceError, match="/system/bin/linker64") as caught:
        case.require()
    assert "no runner for Android's C library" in caught.value.hint


def test_a_build_for_a_core_with_the_dot_product_runs_on_one_without_and_says_that_it_is_slower(case: Case) -> None:
    case.target = RPI5
    case.require()
    (said,) = slower_kernels(case.target, case.facts)
    assert "asimddp" in said
    assert said.endswith("edgeq build PROJECT --target rpi4")
    assert slower_kernels(RPI5, replace(case.facts, features=RPI5.features, cpu="cortex-a76")) == ()
    assert slower_kernels(RPI5, replace(case.facts, features=())) == ()


def test_what_was_warned_of_is_in_the_record(case: Case, tmp_path: Path) -> None:
    bundles = {"executorch": case.bundle}
    device = FakeTransport(tmp_path / "device")
    made = [
        deploy(case.build, case.manifest, target, device, bundles, device="fake", progress=Silent()).deployment
        for target in (sample_target(), RPI5)
    ]
    assert [len(one.warnings) for one in made] == [0, 1]
    assert read_deployment(case.build, "fake") == made[1]
    assert "asimddp" in made[1].warnings[0]


@pytest.mark.parametrize(
    ("features", "expected"), [((), 1), (("avx512_vnni",), 0), (("avx_vnni",), 0), (("avx512f",), 1)]
)
def test_sums_that_saturate_without_vnni_are_a_mismatch(case: Case, features: tuple[str, ...], expected: int) -> None:
    _onnx_case(case, _onnx(10, onnx=20))
    artifacts = tuple(replace(one, int8_mac_share=1.0) for one in case.manifest.artifacts)
    case.manifest = replace(case.manifest, artifacts=artifacts)
    case.target = replace(load_target("host"), features=("sse2", "avx_vnni"))
    case.facts = DeviceFacts(machine="x86_64", features=("sse2", *features))
    assert len(case.found()) == expected
    case.manifest = replace(case.manifest, artifacts=tuple(replace(one, int8_mac_share=0.0) for one in artifacts))
    assert case.found() == []


def test_features_that_no_kernel_chooses_by_do_not_count() -> None:
    target = replace(sample_target(), features=("asimd", "evtstrm", "cpuid", "aes"))
    assert missing_features(target, replace(sample_facts(), features=("asimd",))) == ()


def test_a_target_of_another_kind_of_machine_says_nothing_of_this_one() -> None:
    assert missing_features(RPI5, DeviceFacts(machine="x86_64", features=("sse2",))) == ()


@pytest.mark.parametrize(
    "name",
    [
        *("rpi-zero-2w", "rpi2", "rpi3", "rpi4", "rpi5"),
        *("jetson-orin-nano", "graviton2", "generic-aarch64", "generic-armv7", "host"),
    ],
)
def test_every_target_fits_a_device_that_has_what_it_lists(name: str) -> None:
    target = load_target(name)
    facts = DeviceFacts(machine=KINDS[target.triple].machines[0], features=target.features)
    assert missing_features(target, facts) == ()
    if target.triple == "aarch64-linux-gnu":
        assert missing_features(load_target("generic-aarch64"), facts) == ()


def test_less_memory_than_an_artifact_alone_takes_is_told(case: Case) -> None:
    case.facts = replace(case.facts, available_bytes=500, swap_free_bytes=100)
    assert [said.split()[0] for said in case.found()] == [
        one.name for one in case.manifest.artifacts if one.size_bytes > 600
    ]
    case.facts = replace(case.facts, swap_free_bytes=1 << 20)
    assert case.found() == []


def test_memory_as_measured_counts_where_it_was(case: Case) -> None:
    artifact = case.manifest.artifacts[0]
    row = sample_measurement(artifact)
    append(case.build, replace(row, peak_rss_bytes=900_000_000))
    append(case.build, replace(row, peak_rss_bytes=800_000_000))
    append(case.build, replace(row, peak_rss_bytes=1, device_facts=DeviceFacts(machine="x86_64")))
    case.facts = replace(case.facts, available_bytes=700_000_000)
    (said,) = case.found()
    assert f"{artifact.name} needs 800 MB of memory as it was measured" in said
    case.facts = replace(case.facts, available_bytes=800_000_000)
    assert case.found() == []


def test_another_kind_of_machine_is_told_alone(case: Case) -> None:
    case.facts = DeviceFacts(machine="armv7l", libc="glibc 2.13")
    with pytest.raises(WrongArchitectureError, match="armv7l"):
        case.require()


def test_a_machine_of_32_bits_is_told_the_target_that_fits_it(case: Case) -> None:
    case.facts = DeviceFacts(machine="armv7l", cpu="cortex-a7")
    with pytest.raises(WrongArchitectureError) as caught:
        case.require()
    assert caught.value.hint.endswith("edgeq build PROJECT --target rpi2 --format onnx")


def test_32_bit_programs_under_a_64_bit_kernel_take_another_build(case: Case) -> None:
    case.facts = replace(case.facts, loaders=("/lib/ld-linux-armhf.so.3",))
    with pytest.raises(IncompatibleBuildError, match="ld-linux-aarch64") as caught:
        case.require()
    assert "edgeq build PROJECT --target generic-armv7 --format onnx" in caught.value.hint


def _armv7_case(case: Case) -> None:
    _onnx_case(case, _onnx(10, onnx=20))
    case.target = load_target("generic-armv7")
    case.bundle = replace(case.bundle, triple="arm-linux-gnueabihf", runtime_version="1.28.2")
    for path in case.bundle.files.values():
        path.write_bytes(sample_library("GLIBC_2.34", "GLIBCXX_3.4.29", bits=32))
    case.facts = replace(case.facts, loaders=("/lib/ld-linux-armhf.so.3",))


@pytest.mark.parametrize("machine", ["armv7l", "armv8l", "aarch64"])
def test_the_32_bit_runner_fits_each_kernel_that_runs_its_programs(case: Case, machine: str) -> None:
    _armv7_case(case)
    case.facts = replace(case.facts, machine=machine, features=("neon",))
    case.require()
    assert missing_features(case.target, case.facts) == ()


def test_an_older_system_of_32_bits_is_told_what_the_runner_needs(case: Case) -> None:
    _armv7_case(case)
    case.facts = replace(case.facts, libc="glibc 2.31", libstdcxx="3.4.28")
    assert [said.partition(", and ")[0] for said in case.found()] == [
        "the onnxruntime runner needs glibc 2.34",
        "the onnxruntime runner needs libstdc++ with GLIBCXX_3.4.29",
    ]


def test_a_core_of_32_bits_without_neon_is_told(case: Case) -> None:
    _armv7_case(case)
    case.facts = replace(case.facts, machine="armv7l", cpu="cortex-a9", features=("half", "thumb", "vfpv3"))
    (said,) = case.found()
    assert "compiled for neon, and that device's cortex-a9 has not" in said


def test_another_version_of_the_runtime_than_scored_the_build_is_said_and_no_obstacle(case: Case) -> None:
    _armv7_case(case)
    case.require()
    (said,) = other_runtimes({"onnxruntime": case.bundle})
    assert "1.28.2 for arm-linux-gnueabihf, and 1.31.1" in said
    case.requires(version="1.30.0")
    (said,) = case.found()
    assert said.endswith("built for onnxruntime 1.30.0, and the runner takes files of onnxruntime 1.31.1")


def test_room_alone_has_its_own_error(case: Case) -> None:
    with pytest.raises(DeviceDiskFullError, match="11 bytes are needed"):
        case.require(Room(root=".edgeq", needed_bytes=11, free_bytes=10))


def test_all_is_told_at_once_and_each_with_its_remedy(case: Case) -> None:
    case.requires(version="1.4.0")
    case.facts = replace(case.facts, libc="glibc 2.17", libstdcxx="3.4.10", available_bytes=1, swap_free_bytes=0)
    with pytest.raises(IncompatibleDeviceError, match="6 reasons; nothing was pushed") as caught:
        case.require(Room(root=".edgeq", needed_bytes=11, free_bytes=10))
    assert caught.value.exit_code == 4
    lines = caught.value.detail.splitlines()
    assert len(lines) == 6
    words = ("1.4.0", "glibc", "GLIBCXX", "tiny.fp32", "tiny.int8", "no space left")
    assert all(word in line for word, line in zip(words, lines, strict=True))


def test_nothing_is_pushed_to_a_device_that_does_not_fit(case: Case, tmp_path: Path) -> None:
    device = FakeTransport(tmp_path / "device", facts="=== machine\naarch64\n=== libc\nmusl libc\nVersion 1.2.3\n")
    with pytest.raises(IncompatibleDeviceError, match=r"musl 1\.2\.3"):
        deploy(
            case.build,
            case.manifest,
            case.target,
            device,
            {"executorch": case.bundle},
            device="fake",
            progress=Silent(),
        )
    assert not device.pushed
    assert not list((tmp_path / "device").rglob("blobs/*"))


def _onnx(ir_version: int, **opsets: int) -> bytes:
    """A model without a graph: ir_version, an empty graph with a name, and the opsets."""
    data = bytes([0x08, ir_version, 0x12, 2]) + b"eq" + bytes([0x3A, 4, 0x12, 2]) + b"ab"
    for domain, version in opsets.items():
        name = domain.replace("onnx", "").replace("_", ".").encode()
        inner = (bytes([0x0A, len(name)]) + name if name else b"") + bytes([0x10, version])
        data += bytes([0x42, len(inner)]) + inner
    return data


def _onnx_case(case: Case, content: bytes) -> None:
    artifact: Artifact = replace(
        sample_artifact("fp32", "onnx"), requires=Requires(runtime="onnxruntime", version="1.31.1")
    )
    (case.build / artifact.name).write_bytes(content)
    case.manifest = replace(case.manifest, artifacts=(artifact,))
    case.bundle = replace(case.bundle, engine="onnxruntime", runtime_version="1.31.1", built_with="1.31.1")


def test_the_versions_of_an_onnx_file_are_read_without_its_graph(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(_onnx(10, onnx=20, com_microsoft=1))
    assert read_header(tmp_path / "a.onnx") == OnnxHeader(ir_version=10, opsets={"": 20, "com.microsoft": 1})


def test_what_is_no_onnx_file_has_no_header(tmp_path: Path) -> None:
    whole = _onnx(10, onnx=20)
    for size in range(len(whole)):
        (tmp_path / "a.onnx").write_bytes(whole[:size])
        assert read_header(tmp_path / "a.onnx") is None
    (tmp_path / "a.onnx").write_bytes(b"\xff" * 40)
    assert read_header(tmp_path / "a.onnx") is None


def test_a_damaged_onnx_file_ends_in_no_error(tmp_path: Path) -> None:
    whole = _onnx(10, onnx=20, com_microsoft=1)
    for position in range(len(whole)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, whole[position] ^ 1):
            (tmp_path / "a.onnx").write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            read_header(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_onnx(13, onnx=26, com_microsoft=1), []),
        (_onnx(14, onnx=20), ["IR version 14"]),
        (_onnx(10, onnx=27, com_microsoft=2), ["opset ai.onnx 27", "opset com.microsoft 2"]),
        (_onnx(10, made_up=99), []),
    ],
)
def test_an_onnx_file_newer_than_the_runtime_is_told(case: Case, content: bytes, expected: list[str]) -> None:
    _onnx_case(case, content)
    said = case.found()
    assert len(said) == len(expected)
    assert all(words in one for words, one in zip(expected, said, strict=True))


def test_the_limits_of_one_onnx_runtime_are_not_held_against_another(case: Case) -> None:
    _onnx_case(case, _onnx(14, onnx=99))
    case.bundle = replace(case.bundle, runtime_version="9.9.9", built_with="9.9.9")
    case.requires(version="9.9.9")
    assert case.found() == []
