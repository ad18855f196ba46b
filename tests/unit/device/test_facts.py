from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeq.device.facts import read_facts, read_health
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


def test_the_hottest_zone_of_the_cpu_counts(tmp_path: Path) -> None:
    health = "zone cpu-thermal 61234\nzone gpu 99000\nzone soc_max 63000\nthrottled 50000\n"
    assert read_health(FakeTransport(tmp_path, health=health)) == (63.0, False)
    assert read_health(FakeTransport(tmp_path, health="throttled 50005\n")) == (None, True)
    assert read_health(FakeTransport(tmp_path)) == (None, None)
    read_health(LocalTransport())
