"""Targets: facts of a board that everybody who owns one shares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from edgeq.errors import BareMetalError, ConfigError, UnknownNameError
from edgeq.schema import from_data, read_toml
from edgeq.triple import KINDS, Triple

_BESIDE_THE_SOURCES = Path(__file__).parents[2] / "targets"
_IN_THE_PACKAGE = Path(__file__).parent / "targets"

BARE_METAL: Final = "arm-none-eabi"
"""The triple of a microcontroller: no operating system, so nothing that edgeq could log in to."""


EmulatedSystem = Literal["arm64", "armhf", "armhf-on-arm64"]


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """How QEMU stands in for the board: ``cpu`` is QEMU's name of the core, ``system`` what runs on it.

    A system is named as Debian does; ``armhf-on-arm64`` has 32-bit programs
    and a 64-bit kernel.
    """

    cpu: str
    system: EmulatedSystem = "arm64"
    machine: str = "virt"
    ram_mib: int = 1024


@dataclass(frozen=True, kw_only=True)
class BenchDefaults:
    """How to measure there unless the user says otherwise."""

    threads: int
    warmup: int = 10
    repeats: int = 200
    max_celsius: int = 80


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """What a runtime's kernels take on this board: the dtype of quantized activations that they fuse."""

    activations: Literal["int8", "uint8"]


@dataclass(frozen=True, kw_only=True)
class Runtimes:
    """The runtimes edgeq knows, as they are on this board; None of one that there is not for it."""

    executorch: RuntimeFacts | None = None
    onnxruntime: RuntimeFacts | None = None


@dataclass(frozen=True, kw_only=True)
class Npu:
    """An Arm Ethos-U, and the system around it that Vela compiles and estimates for.

    ``accelerator`` is Vela's name of it: its family and how many int8
    multiply-accumulates it does a cycle. ``system_config`` (clock and
    bandwidth of each memory) and ``memory_mode`` (what lies in which) are
    sections of ``Arm/vela.ini``, which comes with Vela.
    """

    accelerator: str
    system_config: str
    memory_mode: str

    @property
    def macs_per_cycle(self) -> int:
        """How many int8 multiply-accumulates it does a cycle at most."""
        return int(self.accelerator.rpartition("-")[2])


@dataclass(frozen=True, kw_only=True)
class CmsisNn:
    """A Cortex-M that computes with the kernels of Arm's CMSIS-NN, as ``core`` can: plain, with DSP or with MVE."""

    core: Literal[
        "cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m23", "cortex-m33",
        "cortex-m35p", "cortex-m55", "cortex-m85",
    ]  # fmt: skip


_MACS_PER_CYCLE = {
    "ethos-u55": (32, 64, 128, 256),
    "ethos-u65": (256, 512),
    "ethos-u85": (128, 256, 512, 1024, 2048),
}
_SYSTEM_CONFIGS = {
    "ethos-u55": ("Ethos_U55_Deep_Embedded", "Ethos_U55_High_End_Embedded"),
    "ethos-u65": ("Ethos_U65_Embedded", "Ethos_U65_Mid_End", "Ethos_U65_High_End", "Ethos_U65_Client_Server"),
    "ethos-u85": (
        "Ethos_U85_SYS_Flash_Low", "Ethos_U85_SYS_Flash_High",
        "Ethos_U85_SYS_DRAM_Low", "Ethos_U85_SYS_DRAM_Mid", "Ethos_U85_SYS_DRAM_High",
    ),
}  # fmt: skip
_SRAM_MODES = ("Sram_Only", "Shared_Sram")
_DRAM_MODES = ("Dedicated_Sram", "Dedicated_Sram_256KB", "Dedicated_Sram_384KB", "Dedicated_Sram_512KB")
"""Modes that take a DRAM beside the SRAM, which no system with a U55 has."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Facts of a board. ``sources`` says where each was read.

    A board with Linux has ``ram_bytes``, ``bench`` and the runtimes that there
    are for its triple, and neither ``npu`` nor ``cmsis_nn``; a microcontroller (``arm-none-eabi``)
    has one of the two and none of those.
    """

    name: str = ""
    description: str
    triple: Triple | Literal["arm-none-eabi"]
    cpu: str
    features: tuple[str, ...]
    cores: int
    ram_bytes: int | None = None
    sources: tuple[str, ...]
    runtimes: Runtimes
    bench: BenchDefaults | None = None
    emulation: Emulation | None = None
    npu: Npu | None = None
    cmsis_nn: CmsisNn | None = None

    @property
    def bare_metal(self) -> bool:
        """Whether it has no operating system: edgeq builds for it, and can neither deploy to it nor measure there."""
        return self.triple == BARE_METAL

    @property
    def runner_triple(self) -> Triple:
        """Whose runner fits; BareMetalError for a microcontroller, which none does."""
        if self.triple == BARE_METAL:
            raise BareMetalError(self.name)
        return self.triple

    @property
    def measuring(self) -> BenchDefaults:
        """How to measure there; BareMetalError where nothing can be."""
        if self.bench is None:
            raise BareMetalError(self.name)
        return self.bench

    @property
    def formats(self) -> tuple[Literal["pte", "onnx"], ...]:
        """The formats that a runtime of this board takes."""
        if self.triple == BARE_METAL:
            return ("pte",)
        return ("pte", "onnx") if "executorch" in KINDS[self.triple].engines else ("onnx",)


def targets_dir() -> Path:
    """The folder of the targets that come with edgeq."""
    return _IN_THE_PACKAGE if _IN_THE_PACKAGE.is_dir() else _BESIDE_THE_SOURCES


def known_targets() -> dict[str, Path]:
    """The targets that come with edgeq, by name."""
    return {path.stem: path for path in sorted(targets_dir().glob("*.toml"))}


def load_target(name: str) -> Target:
    """The target called ``name``, or the one in the file at that path."""
    path = Path(name)
    if path.suffix != ".toml":
        known = known_targets()
        if name not in known:
            raise UnknownNameError("target", name, known)
        path = known[name]
    target = from_data(Target, read_toml(path), where=str(path))
    _check(target, str(path))
    return replace(target, name=target.name or path.stem)


def _check(target: Target, where: str) -> None:
    """ConfigError for a key that a kind of board must have, or cannot have."""
    linux = {
        "ram_bytes": target.ram_bytes,
        "bench": target.bench,
        "runtimes.onnxruntime": target.runtimes.onnxruntime,
        "emulation": target.emulation,
    }
    bare = {"npu": target.npu, "cmsis_nn": target.cmsis_nn}
    if not target.bare_metal:
        missing = [key for key, value in linux.items() if value is None and key != "emulation"]
        strange = [key for key, value in bare.items() if value is not None]
    else:
        missing = [
            key
            for key, there in (
                ("npu", target.npu or target.cmsis_nn),
                ("runtimes.executorch", target.runtimes.executorch),
            )
            if not there
        ]
        if target.npu and target.cmsis_nn:
            raise ConfigError(
                f"{where}: npu and cmsis_nn are both given", hint="leave out the one that layers are not to run in"
            )
        strange = [key for key, value in linux.items() if value is not None]
    if missing:
        raise ConfigError(f"{where}: missing key `{missing[0]}`", hint="targets/README.md describes each field")
    if strange:
        kind = "a microcontroller, which runs no Linux," if target.bare_metal else "a board that runs Linux"
        raise ConfigError(
            f"{where}: {strange[0]} means nothing on {kind}",
            hint=f"leave it out, or mend the triple, which is {target.triple}",
        )
    if target.npu:
        _check_npu(target.npu, where)
    if target.triple != BARE_METAL:
        _check_runtimes(target.runtimes, target.triple, where)


def _check_npu(npu: Npu, where: str) -> None:
    """UnknownNameError for what Vela does not know, or not together."""
    known = {f"{family}-{macs}": family for family, sizes in _MACS_PER_CYCLE.items() for macs in sizes}
    if npu.accelerator not in known:
        raise UnknownNameError("accelerator", npu.accelerator, known, where=where)
    family = known[npu.accelerator]
    if npu.system_config not in _SYSTEM_CONFIGS[family]:
        raise UnknownNameError(f"system_config of {family}", npu.system_config, _SYSTEM_CONFIGS[family], where=where)
    modes = _SRAM_MODES if family == "ethos-u55" else (*_SRAM_MODES, *_DRAM_MODES)
    if npu.memory_mode not in modes:
        raise UnknownNameError(f"memory_mode of {family}", npu.memory_mode, modes, where=where)


def _check_runtimes(runtimes: Runtimes, triple: Triple, where: str) -> None:
    """Raise ConfigError unless the file says of the runtimes what holds for machines of that kind."""
    kind = KINDS[triple]
    there = "executorch" in kind.engines
    if there and runtimes.executorch is None:
        raise ConfigError(f"{where}: [runtimes.executorch] is missing", hint='it needs activations = "int8"')
    if not there and runtimes.executorch is not None:
        raise ConfigError(
            f"{where}: [runtimes.executorch] is given, and no package registry has it for {triple}",
            hint="leave that table out",
        )
    stated = "" if runtimes.onnxruntime is None else runtimes.onnxruntime.activations
    if stated and stated not in kind.activations:
        raise ConfigError(
            f"{where}: [runtimes.onnxruntime] activations is {stated!r}, which ONNX Runtime computes wrongly "
            f"on {triple}",
            hint=f'say activations = "{kind.activations[0]}"',
        )
