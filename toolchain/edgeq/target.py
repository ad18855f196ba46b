"""Targets: facts of a board that everybody who owns one shares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgeq.errors import ConfigError, UnknownNameError
from edgeq.schema import from_data, read_toml
from edgeq.triple import KINDS, Triple

_BESIDE_THE_SOURCES = Path(__file__).parents[2] / "targets"
_IN_THE_PACKAGE = Path(__file__).parent / "targets"


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
    onnxruntime: RuntimeFacts


@dataclass(frozen=True, kw_only=True)
class Target:
    """Facts of a board. ``sources`` says where each was read."""

    name: str = ""
    description: str
    triple: Triple
    cpu: str
    features: tuple[str, ...]
    cores: int
    ram_bytes: int
    sources: tuple[str, ...]
    runtimes: Runtimes
    bench: BenchDefaults
    emulation: Emulation | None = None

    @property
    def formats(self) -> tuple[Literal["pte", "onnx"], ...]:
        """The formats that a runtime of this board takes."""
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
    _check_runtimes(target, path)
    return replace(target, name=target.name or path.stem)


def _check_runtimes(target: Target, path: Path) -> None:
    """Raise ConfigError unless the file says of the runtimes what holds for machines of that kind."""
    kind = KINDS[target.triple]
    there = "executorch" in kind.engines
    if there and target.runtimes.executorch is None:
        raise ConfigError(f"{path}: [runtimes.executorch] is missing", hint='it needs activations = "int8"')
    if not there and target.runtimes.executorch is not None:
        raise ConfigError(
            f"{path}: [runtimes.executorch] is given, and no package registry has it for {target.triple}",
            hint="leave that table out",
        )
    stated = target.runtimes.onnxruntime.activations
    if stated not in kind.activations:
        raise ConfigError(
            f"{path}: [runtimes.onnxruntime] activations is {stated!r}, which ONNX Runtime computes wrongly "
            f"on {target.triple}",
            hint=f'say activations = "{kind.activations[0]}"',
        )
