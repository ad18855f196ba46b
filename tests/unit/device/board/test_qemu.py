from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeq.device.board import qemu
from edgeq.device.board.image import Image
from edgeq.device.board.listening import Listening
from edgeq.errors import MissingToolError, NoEmulationError
from edgeq.target import BenchDefaults, Emulation, RuntimeFacts, Runtimes, Target

if TYPE_CHECKING:
    from edgeq.target import EmulatedSystem
    from edgeq.triple import Triple

_EMULATION = Emulation(cpu="cortex-a72")
_HERE = Listening()
_IMAGE = Image(sha256="0" * 64, folder=Path("/cache/with, a comma"))
_TARGET = Target(
    name="rpi4",
    description="",
    triple="aarch64-linux-gnu",
    cpu="cortex-a72",
    features=(),
    cores=4,
    ram_bytes=1,
    sources=(),
    runtimes=Runtimes(
        executorch=RuntimeFacts(activations="int8"),
        onnxruntime=RuntimeFacts(activations="int8"),
    ),
    bench=BenchDefaults(threads=1),
    emulation=_EMULATION,
)


def _arguments(
    emulation: Emulation = _EMULATION, listening: Listening = _HERE, incoming_fd: int | None = None
) -> tuple[str, ...]:
    return qemu.arguments(emulation, _IMAGE, listening, marker="m", console_fd=7, monitor_fd=8, incoming_fd=incoming_fd)


def _value(arguments: tuple[str, ...], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def test_the_machine_is_the_target_s() -> None:
    arguments = _arguments(Emulation(cpu="cortex-a53", ram_mib=512))
    assert _value(arguments, "-cpu") == "cortex-a53"
    assert _value(arguments, "-m") == "512"


@pytest.mark.parametrize(
    ("system", "triple"),
    [("armhf", "arm-linux-gnueabihf"), ("armhf-on-arm64", "arm-linux-gnueabihf"), ("arm64", "aarch64-linux-gnu")],
)
def test_a_target_is_emulated_with_a_system_that_runs_its_programs(system: EmulatedSystem, triple: Triple) -> None:
    emulation = Emulation(cpu="cortex-a53", system=system)
    assert qemu.emulation_of(replace(_TARGET, triple=triple, emulation=emulation)) == emulation


def test_a_system_of_other_programs_than_the_target_s_is_refused_and_one_that_fits_is_named() -> None:
    target = replace(_TARGET, triple="arm-linux-gnueabihf", emulation=Emulation(cpu="cortex-a7"))
    with pytest.raises(NoEmulationError, match=r"'arm64', whose programs are not for arm-.*'armhf-on-arm64' fits"):
        qemu.emulation_of(target)


def test_instructions_are_counted_on_one_core_with_a_fixed_shift() -> None:
    assert _value(_arguments(), "-icount") == "shift=1,sleep=on"
    assert _value(_arguments(), "-smp") == "1"


def test_the_board_is_reachable_from_this_machine_only_and_reaches_nothing() -> None:
    network = _value(_arguments(), "-netdev").split(",")
    assert "restrict=on" in network
    assert [part for part in network if part.startswith("hostfwd")] == ["hostfwd=tcp:127.0.0.1:0-:22"]


def test_a_board_listens_where_it_is_told_to() -> None:
    network = _value(_arguments(listening=Listening(address="0.0.0.0", port=2222)), "-netdev")
    assert "hostfwd=tcp:0.0.0.0:2222-:22" in network.split(",")
    assert "restrict=on" in network.split(",")


def test_a_comma_in_the_cache_s_path_does_not_split_an_option() -> None:
    commas = [argument for argument in _arguments() if "with, a comma" in argument]
    assert commas == ["/cache/with, a comma/Image", "/cache/with, a comma/root.cpio"]


def test_a_snapshot_comes_through_an_inherited_descriptor() -> None:
    assert "-incoming" not in _arguments()
    assert _value(_arguments(incoming_fd=9), "-incoming") == "fd:9"


def test_a_target_without_emulation_is_refused_before_anything_starts() -> None:
    with pytest.raises(NoEmulationError, match="no emulated board: its file has no"):
        qemu.emulation_of(replace(_TARGET, emulation=None))


def test_a_machine_that_the_image_does_not_boot_on_is_refused() -> None:
    with pytest.raises(NoEmulationError, match="raspi3b"):
        qemu.emulation_of(replace(_TARGET, emulation=Emulation(cpu="cortex-a53", machine="raspi3b")))


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(NoEmulationError, match="below 256"):
        qemu.emulation_of(replace(_TARGET, emulation=Emulation(cpu="cortex-a53", ram_mib=64)))


def test_a_missing_qemu_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="qemu-system-aarch64") as caught:
        qemu.require_programs()
    assert "qemu-system-arm" in caught.value.hint
