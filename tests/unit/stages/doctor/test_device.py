from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import MissingToolError, UnreachableError
from edgeq.schema import to_data
from edgeq.stages.doctor import Diagnosis, diagnose
from edgeq.stages.doctor.device import examine
from edgeq.target import Target, load_target
from edgeq.testing import FakeTransport

if TYPE_CHECKING:
    from pathlib import Path

PI_4_FACTS = """=== machine
aarch64
=== kernel
6.6.31+rpt-rpi-v8
=== cores
4
=== model
Raspberry Pi 4 Model B Rev 1.5
=== governor
performance
=== memory
MemTotal:        3884288 kB
MemAvailable:    3412345 kB
SwapTotal:        204796 kB
SwapFree:         204796 kB
=== libc
glibc 2.36
=== libstdcxx
/usr/lib/aarch64-linux-gnu/libstdc++.so.6.0.30
=== loaders
/lib/ld-linux-aarch64.so.1
=== frequency
1800000
=== cpu
processor	: 0
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU part	: 0xd08
"""

PI_4_HEALTH = """now {now}
load 0.10 0.12 0.09 1/181 1234
MemAvailable:    3412345 kB
zone cpu-thermal 48212
slowed 0
throttled 0x0
clock policy0 scaling_governor=performance scaling_cur_freq=1800000 scaling_max_freq=1800000 cpuinfo_max_freq=1800000
self 900
sample
cpu  1000 0 500 90000 100 0 10 0 0 0
800 (motion) R 1 800 800 0 -1 4194560 7 8 9 10 5000 100 0 0 20 0 1 0 4 1 1
sample
cpu  1002 0 501 90097 100 0 10 0 0 0
800 (motion) R 1 800 800 0 -1 4194560 7 8 9 10 5001 100 0 0 20 0 1 0 4 1 1
"""

BUSYBOX_FACTS = """=== machine
aarch64
=== kernel
6.1.0-50-cloud-arm64
=== cores
1
=== model
linux,dummy-virt
=== memory
MemTotal:        1004736 kB
MemFree:          900000 kB
MemAvailable:     880000 kB
SwapTotal:             0 kB
SwapFree:              0 kB
=== libc
GNU C Library (Debian GLIBC 2.36-9+deb12u13) stable release version 2.36.
=== libstdcxx
/usr/lib/aarch64-linux-gnu/libstdc++.so.6.0.30
=== cpu
processor	: 0
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer	: 0x41
CPU part	: 0xd08
"""

RPI4 = load_target("rpi4")


def _findings(
    folder: Path, facts: str = PI_4_FACTS, health: str = PI_4_HEALTH, target: Target | None = RPI4
) -> dict[str, tuple[str, str, str]]:
    device = FakeTransport(folder, facts=facts, health=health.replace("{now}", str(int(time.time()))))
    examined = examine(device, "ssh://pi@kitchen", target=target)
    assert all(one.remedy for one in examined.findings if one.severity in {"warning", "problem"})
    assert not any(one.remedy for one in examined.findings if one.severity in {"ok", "unknown"})
    assert not any(folder.iterdir()), "a doctor leaves nothing"
    return {one.code: (one.severity, one.text, one.remedy) for one in examined.findings}


def test_a_raspberry_pi_in_good_order_is_all_ok(tmp_path: Path) -> None:
    found = _findings(tmp_path)
    assert {severity for severity, _, _ in found.values()} == {"ok"}
    assert "Raspberry Pi 4 Model B Rev 1.5: 4 x cortex-a72" in found["device.machine"][1]
    assert "int8 dot product no" in found["device.features"][1]
    assert "1800 of 1800 MHz" in found["device.frequency"][1]
    assert "48 C" in found["device.temperature"][1]


def test_a_busybox_board_that_says_little_has_no_problem_and_no_warning(tmp_path: Path) -> None:
    found = _findings(tmp_path, BUSYBOX_FACTS, "now {now}\nload 0.00 0.00 0.00 1/40 99\nthrottled \nself 12\n")
    assert {severity for severity, _, _ in found.values()} == {"ok", "unknown"}
    unread = {code for code, (severity, _, _) in found.items() if severity == "unknown"}
    assert unread == {"device.frequency", "device.temperature", "device.throttling"}
    assert "no swap" in found["device.memory"][1]


def test_a_device_that_says_nothing_but_its_kind_has_no_problem(tmp_path: Path) -> None:
    found = _findings(tmp_path, "=== machine\naarch64\n", "")
    assert {severity for severity, _, _ in found.values()} == {"ok", "unknown"}


def test_a_throttled_pi_is_told_in_words_with_its_bits(tmp_path: Path) -> None:
    severity, text, remedy = _findings(tmp_path, health="throttled 50005\n")["device.throttling"]
    assert severity == "warning"
    assert "now: under-voltage, throttled" in text
    assert "0x50005" in text
    assert "power supply" in remedy
    severity, text, remedy = _findings(tmp_path, health="throttled 0x80000\n")["device.throttling"]
    assert "since its start it was slowed down: at the soft temperature limit" in text
    assert "fan" in remedy


@pytest.mark.parametrize(("millidegrees", "severity"), [(69000, "ok"), (71000, "warning"), (85000, "warning")])
def test_heat_is_a_warning(tmp_path: Path, millidegrees: int, severity: str) -> None:
    assert _findings(tmp_path, health=f"zone cpu {millidegrees}\n")["device.temperature"][0] == severity


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("aarch64", "riscv64"), "device.machine"),
        (("aarch64\n===", "armv6l\n==="), "device.machine"),
        (("glibc 2.36", "glibc 2.27"), "device.libc"),
        (("glibc 2.36", "musl libc\nVersion 1.2.4"), "device.libc"),
        (("6.0.30", "6.0.21"), "device.libstdcxx"),
    ],
)
def test_what_stops_the_runner_is_a_problem(tmp_path: Path, change: tuple[str, str], code: str) -> None:
    found = _findings(tmp_path, facts=PI_4_FACTS.replace(*change))
    assert found[code][0] == "problem"
    assert [severity for severity, _, _ in found.values()].count("problem") == 1


def test_a_64_bit_kernel_with_32_bit_programs_is_told_and_judged_by_the_32_bit_runner(tmp_path: Path) -> None:
    facts = PI_4_FACTS.replace("ld-linux-aarch64.so.1", "ld-linux-armhf.so.3")
    found = _findings(tmp_path, facts=facts, target=None)
    assert found["device.machine"][0] == "ok"
    assert "32-bit programs under a 64-bit kernel: only .onnx" in found["device.machine"][1]
    assert "from 2.34 on" in found["device.libc"][1]
    older = facts.replace("glibc 2.36", "glibc 2.31")
    assert _findings(tmp_path, facts=older, target=None)["device.libc"][0] == "problem"


def test_a_target_whose_programs_do_not_run_there_is_a_problem(tmp_path: Path) -> None:
    facts = PI_4_FACTS.replace("ld-linux-aarch64.so.1", "ld-linux-armhf.so.3")
    severity, text, remedy = _findings(tmp_path, facts=facts, target=load_target("rpi4"))["device.target"]
    assert severity == "problem"
    assert "runs arm-linux-gnueabihf" in text
    assert "generic-armv7" in remedy
    assert "device.target" not in _findings(tmp_path, facts=facts, target=load_target("generic-armv7"))


def test_a_phone_is_told_that_no_runner_fits_it(tmp_path: Path) -> None:
    facts = PI_4_FACTS.replace("/lib/ld-linux-aarch64.so.1", "/system/bin/linker64").replace("glibc 2.36", "")
    severity, text, remedy = _findings(tmp_path, facts=facts)["device.machine"]
    assert severity == "problem"
    assert "linker64" in text
    assert "Android" in remedy


def test_too_little_memory_is_a_problem_and_little_a_warning(tmp_path: Path) -> None:
    for kilobytes, severity in ((30_000, "problem"), (200_000, "warning"), (400_000, "ok")):
        health = PI_4_HEALTH.replace("3412345", str(kilobytes))
        assert _findings(tmp_path, health=health)["device.memory"][0] == severity


def test_much_in_swap_is_a_warning(tmp_path: Path) -> None:
    facts = PI_4_FACTS.replace("SwapFree:         204796", "SwapFree:         104796")
    assert _findings(tmp_path, facts=facts)["device.swap"][0] == "warning"


def test_a_governor_that_changes_the_frequency_is_a_warning_with_the_line_that_sets_it(tmp_path: Path) -> None:
    severity, text, remedy = _findings(tmp_path, health=PI_4_HEALTH.replace("=performance", "=ondemand"))[
        "device.governor"
    ]
    assert severity == "warning"
    assert "policy0 at 1800 of 1800 MHz" in text
    assert "scaling_governor" in remedy


def test_a_cap_on_the_frequency_is_a_warning(tmp_path: Path) -> None:
    health = PI_4_HEALTH.replace("scaling_max_freq=1800000", "scaling_max_freq=1500000")
    severity, text, _ = _findings(tmp_path, health=health)["device.frequency"]
    assert severity == "warning"
    assert "not go beyond 1500 MHz" in text


def test_a_clock_that_is_off_is_a_warning(tmp_path: Path) -> None:
    off = {"ahead of": 7200, "behind": -7200}
    for words, seconds in off.items():
        severity, text, _ = _findings(tmp_path, health=f"now {int(time.time()) + seconds}\n")["device.clock"]
        assert severity == "warning"
        assert words in text


def test_others_on_the_processor_are_named_with_what_ends_them(tmp_path: Path) -> None:
    health = PI_4_HEALTH.replace("10 5001 100", "10 5090 100").replace("1002 0 501 90097", "1090 0 500 90010")
    severity, text, remedy = _findings(tmp_path, health=health)["device.load"]
    assert severity == "warning"
    assert "motion (800) 90%" in text
    assert "kill 800" in remedy


def test_a_load_of_the_past_is_a_warning_to_wait(tmp_path: Path) -> None:
    severity, _, remedy = _findings(tmp_path, health="load 3.20 1.00 0.50 1/181 1234\n")["device.load"]
    assert severity == "warning"
    assert "wait" in remedy


def test_a_target_with_more_features_than_the_device_is_a_warning(tmp_path: Path) -> None:
    severity, text, _ = _findings(tmp_path, target=load_target("rpi5"))["device.target"]
    assert severity == "warning"
    assert "asimddp" in text
    assert "device.target" not in _findings(tmp_path, target=None)


def test_sme_is_warned_of(tmp_path: Path) -> None:
    facts = PI_4_FACTS.replace("asimd evtstrm", "asimd asimddp i8mm bf16 sve sme evtstrm")
    severity, text, _ = _findings(tmp_path, facts=facts)["device.features"]
    assert severity == "warning"
    assert "SME" in text


def test_a_root_that_cannot_be_written_is_a_problem_that_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.stages.doctor.device.store_root", lambda _: "/proc/edgeq")
    severity, text, remedy = _findings(tmp_path)["device.root"]
    assert severity == "problem"
    assert "/proc/edgeq" in text
    assert 'host = "kitchen"' in remedy
    assert "root = " in remedy


def test_a_device_of_devices_toml_is_told_the_key_of_its_own_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    (tmp_path / "host/.config/edgeq").mkdir(parents=True)
    (tmp_path / "host/.config/edgeq/devices.toml").write_text('[kitchen]\nhost = "10.0.0.7"\nroot = "/proc/x"\n')
    examined = examine(FakeTransport(tmp_path / "device"), "kitchen", target=None)
    (root,) = [one for one in examined.findings if one.code == "device.root"]
    assert root.severity == "problem"
    assert 'root = "/a/folder" under [kitchen]' in root.remedy


def _diagnosed(tmp_path: Path, facts: str) -> Diagnosis:
    device = FakeTransport(tmp_path / "device", facts=facts, health="throttled 50005\n")
    return diagnose("kitchen", target=None, way=nullcontext(device))


def test_warnings_are_no_failure_and_a_problem_of_the_device_is_4(tmp_path: Path) -> None:
    assert _diagnosed(tmp_path, PI_4_FACTS).exit_code in {0, 3}  # 3 if this machine lacks something
    assert _diagnosed(tmp_path, PI_4_FACTS.replace("glibc 2.36", "glibc 2.17")).exit_code == 4


def test_everything_is_plain_data(tmp_path: Path) -> None:
    data = to_data(_diagnosed(tmp_path, PI_4_FACTS))
    assert data["examined"]["facts"]["libstdcxx"] == "3.4.30"
    assert data["examined"]["state"]["throttled_bits"] == 0x50005
    assert {"code", "severity", "text", "remedy"} == set(data["findings"][0])


def test_a_device_that_cannot_be_reached_is_a_finding_beside_those_of_this_machine() -> None:
    class Closed(nullcontext):  # type: ignore[type-arg]
        def __enter__(self) -> None:
            raise UnreachableError("kitchen", "10.0.0.7:22", "timed out", hint="is it on?")

    found = diagnose("kitchen", target=None, way=Closed())
    assert found.exit_code == 4
    assert (found.findings[-1].code, found.findings[-1].remedy) == ("device.connection", "is it on?")
    assert found.findings[0].code == "host.python"
    assert found.examined is None


def test_a_program_that_the_device_needs_here_is_a_problem_of_this_machine() -> None:
    class NoQemu(nullcontext):  # type: ignore[type-arg]
        def __enter__(self) -> None:
            raise MissingToolError("qemu", needed_for="the emulated board", package="qemu-system-arm")

    found = diagnose("board", target=None, way=NoQemu())
    assert found.exit_code == 3
    assert "qemu-system-arm" in found.findings[-1].remedy
