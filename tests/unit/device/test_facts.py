from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeq.device.facts import read_facts
from edgeq.device.local import LocalTransport
from edgeq.errors import NotAPosixDeviceError
from edgeq.records import DeviceFacts
from edgeq.testing import FakeTransport

if TYPE_CHECKING:
    from pathlib import Path

BOARD = """=== machine
aarch64
=== kernel
6.1.0-50-cloud-arm64
=== cores
1
=== model
linux,dummy-virt
=== governor
=== memory
MemTotal:        1004736 kB
=== libc
GNU C Library (Debian GLIBC 2.36-9+deb12u13) stable release version 2.36.
=== cpu
processor	: 0
Features	: fp asimd crc32
CPU implementer	: 0x41
CPU part	: 0xd08

"""


def test_a_raspberry_pi_is_read(tmp_path: Path) -> None:
    facts = read_facts(FakeTransport(tmp_path))
    assert facts.model == "Raspberry Pi 4 Model B Rev 1.4"
    assert (facts.cpu, facts.cores, facts.governor) == ("cortex-a72", 4, "ondemand")
    assert not facts.emulated


def test_the_emulated_board_is_known_by_its_model(tmp_path: Path) -> None:
    facts = read_facts(FakeTransport(tmp_path, facts=BOARD))
    assert facts.emulated
    assert facts.libc == "glibc 2.36"
    assert facts.ram_bytes == 1004736 * 1024
    assert facts.governor == ""


def test_two_kinds_of_core_are_both_named_and_share_their_features(tmp_path: Path) -> None:
    text = (
        "=== machine\naarch64\n=== cpu\n"
        "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd05\n\n"
        "processor : 1\nFeatures : fp asimd asimddp\nCPU implementer : 0x41\nCPU part : 0xd0b\n"
    )
    facts = read_facts(FakeTransport(tmp_path, facts=text))
    assert facts.cpu == "cortex-a55 + cortex-a76"
    assert facts.features == ("asimd", "fp")


def test_an_unknown_core_is_given_by_its_numbers(tmp_path: Path) -> None:
    text = "=== machine\naarch64\n=== cpu\nprocessor : 0\nCPU implementer : 0x61\nCPU part : 0x022\n"
    assert read_facts(FakeTransport(tmp_path, facts=text)).cpu == "implementer 0x61 part 0x022"


def test_what_a_device_does_not_say_stays_empty(tmp_path: Path) -> None:
    assert read_facts(FakeTransport(tmp_path, facts="=== machine\nriscv64\n")) == DeviceFacts(machine="riscv64")


def test_a_device_without_a_shell_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotAPosixDeviceError):
        read_facts(FakeTransport(tmp_path, facts="What?\n"))


def test_the_script_runs_on_this_machine() -> None:
    facts = read_facts(LocalTransport())
    assert facts.machine
    assert facts.cores
    assert facts.ram_bytes
    assert facts.libc.startswith("glibc 2.")


def test_the_libraries_and_the_memory_of_a_board_are_read(tmp_path: Path) -> None:
    text = (
        "=== machine\naarch64\n=== memory\nMemTotal:  3884288 kB\nMemFree: 1 kB\nMemAvailable:  3000000 kB\n"
        "SwapTotal:  102396 kB\nSwapFree:  51200 kB\n"
        "=== libstdcxx\n/usr/lib/aarch64-linux-gnu/libstdc++.so.6.0.30\n"
        "=== loaders\n/lib/ld-linux-aarch64.so.1\n/lib/ld-linux-armhf.so.3\n=== frequency\n1500000\n1800000\n"
    )
    facts = read_facts(FakeTransport(tmp_path, facts=text))
    assert facts.libstdcxx == "3.4.30"
    assert facts.loaders == ("/lib/ld-linux-aarch64.so.1", "/lib/ld-linux-armhf.so.3")
    assert facts.max_mhz == 1800
    assert facts.available_bytes == 3_000_000 * 1024
    assert (facts.swap_bytes, facts.swap_free_bytes) == (102396 * 1024, 51200 * 1024)


def test_musl_is_told_from_glibc(tmp_path: Path) -> None:
    said = "musl libc (aarch64)\nVersion 1.2.4\nDynamic Program Loader\n"
    assert read_facts(FakeTransport(tmp_path, facts=f"=== machine\naarch64\n=== libc\n{said}")).libc == "musl 1.2.4"
    both = f"=== machine\naarch64\n=== libc\nglibc 2.36\n{said}"
    assert read_facts(FakeTransport(tmp_path, facts=both)).libc == "glibc 2.36"


def test_a_library_without_a_version_in_its_name_says_nothing(tmp_path: Path) -> None:
    text = "=== machine\naarch64\n=== libstdcxx\n/usr/lib/libstdc++.so.6\n"
    assert read_facts(FakeTransport(tmp_path, facts=text)).libstdcxx == ""


def test_of_two_cxx_libraries_the_newer_one_counts_as_no_other_can_be_ruled_out(tmp_path: Path) -> None:
    paths = "/usr/lib/libstdc++.so.6.0.9\n/usr/local/lib/libstdc++.so.6.0.32\n"
    text = f"=== machine\naarch64\n=== libstdcxx\n{paths}"
    assert read_facts(FakeTransport(tmp_path, facts=text)).libstdcxx == "3.4.32"


def test_the_cores_are_counted_whatever_openmp_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = read_facts(LocalTransport()).cores
    monkeypatch.setenv("OMP_NUM_THREADS", "37")
    assert read_facts(LocalTransport()).cores == cores
