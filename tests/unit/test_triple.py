from __future__ import annotations

from edgeq.packages.locks import load_wheel_lock
from edgeq.target import known_targets, load_target
from edgeq.triple import KINDS, TRIPLES, runnable


def test_each_kind_has_the_engines_whose_wheels_are_locked() -> None:
    locked = {wheel.name for wheel in load_wheel_lock().wheel}
    assert locked == {f"{engine}-{triple}" for triple, kind in KINDS.items() for engine in kind.engines}


def test_each_kind_has_a_target_for_whatever_machine_of_it() -> None:
    assert tuple(KINDS) == TRIPLES
    for triple, kind in KINDS.items():
        assert kind.generic in known_targets()
        assert load_target(kind.generic).triple == triple


def test_a_64_bit_kernel_with_32_bit_programs_runs_the_32_bit_runner() -> None:
    assert runnable("aarch64", ["/lib/ld-linux-armhf.so.3"]) == ("arm-linux-gnueabihf",)


def test_a_system_of_both_kinds_runs_the_64_bit_runner_first() -> None:
    loaders = ["/lib/ld-linux-armhf.so.3", "/lib/ld-linux-aarch64.so.1"]
    assert runnable("aarch64", loaders) == ("aarch64-linux-gnu", "arm-linux-gnueabihf")


def test_a_32_bit_kernel_runs_no_64_bit_program() -> None:
    assert runnable("armv7l", []) == ("arm-linux-gnueabihf",)
    assert runnable("armv7l", ["/lib/ld-linux-armhf.so.3"]) == ("arm-linux-gnueabihf",)


def test_a_core_before_armv7_runs_none() -> None:
    assert runnable("armv6l", ["/lib/ld-linux-armhf.so.3"]) == ()


def test_a_phone_runs_none() -> None:
    assert runnable("aarch64", ["/system/bin/linker64"]) == ()
