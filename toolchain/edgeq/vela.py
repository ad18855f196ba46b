"""Vela, Arm's compiler for the Ethos-U: run once a partition, and what it expects of each, from its own summary."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.errors import MissingArmToolsError, VelaSummaryError
from edgeq.installed import version_of
from edgeq.records import NpuEstimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from edgeq.target import Npu, Target

ETHOS_U_PACKAGES = {"ethos-u-vela": "5.1.0", "tosa-tools": "2026.5.0"}
"""What ExecuTorch 1.5.1 compiles for an Ethos-U with: the releases that its extra ``ethos-u`` names."""

CORTEX_M_PACKAGES = {"tosa-tools": ETHOS_U_PACKAGES["tosa-tools"]}
"""What its passes for a Cortex-M import, though nothing of TOSA is in the file."""

_KIB = 1024
_SUMMED = ("cycles_total", "cycles_npu", "nn_macs")
_MEMORIES = ("sram", "dram", "on_chip_flash", "off_chip_flash")

Summary = dict[str, float]
"""The columns of a summary that edgeq reads, by Vela's names."""


def arm_packages(target: Target) -> dict[str, str]:
    """What a build for that microcontroller takes beside edgeq; nothing for a board with Linux."""
    if target.npu is not None:
        return ETHOS_U_PACKAGES
    return CORTEX_M_PACKAGES if target.bare_metal else {}


def require_packages(target: Target) -> None:
    """MissingArmToolsError unless :func:`arm_packages` are here, in the releases that were tested."""
    packages = arm_packages(target)
    needed = [f"{name}=={version}" for name, version in packages.items()]
    here = {name: version_of(name) for name in packages}
    missing = [
        f"{name} {version}" + (f" (here is {here[name]})" if here[name] else "")
        for name, version in packages.items()
        if here[name] != version
    ]
    if missing:
        raise MissingArmToolsError(missing, needed)


def vela_version() -> str:
    """Which Vela is installed."""
    return version_of("ethos-u-vela")


@contextlib.contextmanager
def listening(backend: Any) -> Iterator[list[Summary]]:  # noqa: ANN401  # ExecuTorch is not typed
    """Give each partition a folder of its own inside the block, and read what Vela leaves there.

    ``backend`` is ExecuTorch's module of the Ethos-U backend, of which a
    function is replaced: one thread at a time. What Vela prints is kept off
    the terminal; an error that it ends with says it.
    """
    compile_partition = backend.vela_compile
    found: list[Summary] = []

    def compile_and_read(tosa: bytes, flags: list[str], **others: Any) -> Any:  # noqa: ANN401  # as above
        with tempfile.TemporaryDirectory(prefix="edgeq-vela-") as folder:
            others["intermediate_path"] = folder
            made = _heard(lambda: compile_partition(tosa, flags, **others))
            found.append(read_summary(Path(folder)))
            return made

    backend.vela_compile = compile_and_read
    try:
        yield found
    finally:
        backend.vela_compile = compile_partition


def read_summary(folder: Path) -> Summary:
    """The figures of the one summary that Vela wrote below ``folder``; VelaSummaryError if it is not as expected."""
    files = sorted(folder.rglob("*_summary_*.csv"))
    if len(files) != 1:
        raise VelaSummaryError(vela_version(), f"{len(files)} summaries were written instead of one")
    with files[0].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != 1:
        raise VelaSummaryError(vela_version(), f"its summary has {len(rows)} rows instead of one")
    return {name: _number(rows[0], name) for name in ("core_clock", *_SUMMED, *map(_used, _MEMORIES))}


def estimate(summaries: Sequence[Summary], npu: Npu, *, outside: int) -> NpuEstimate | None:
    """All partitions together, one after the other; None where the NPU got nothing to do.

    Cycles and what lies in flash or DRAM add up. SRAM is what the largest
    partition needs: they take turns with it. ``outside`` counts operators
    that the core computes, which Vela knows nothing of.
    """
    if not summaries:
        return None
    total = {name: round(sum(one[name] for one in summaries)) for name in _SUMMED}
    used = {memory: [round(one[_used(memory)] * _KIB) for one in summaries] for memory in _MEMORIES}
    cycles, clock_hz = total["cycles_total"], round(summaries[0]["core_clock"])
    return NpuEstimate(
        by=f"Vela {vela_version()}",
        accelerator=npu.accelerator,
        system_config=npu.system_config,
        memory_mode=npu.memory_mode,
        clock_hz=clock_hz,
        cycles=cycles,
        compute_cycles=total["cycles_npu"],
        inferences_per_second=clock_hz / cycles,
        macs=total["nn_macs"],
        mac_utilisation=total["nn_macs"] / (cycles * npu.macs_per_cycle),
        sram_bytes=max(used["sram"]),
        dram_bytes=sum(used["dram"]),
        on_chip_flash_bytes=sum(used["on_chip_flash"]),
        off_chip_flash_bytes=sum(used["off_chip_flash"]),
        partitions=len(summaries),
        outside=outside,
    )


def _used(memory: str) -> str:
    """The column of how many KiB of a memory are used."""
    return f"{memory}_memory_used"


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        return float(row[name])
    except (KeyError, TypeError, ValueError):
        raise VelaSummaryError(vela_version(), f"its summary gives no number for {name}") from None


def _heard(work: Callable[[], Any]) -> Any:  # noqa: ANN401  # what ``work`` gives
    """Do ``work`` and keep aside what Python or native code prints; RuntimeError with all of that if it exits."""
    with tempfile.TemporaryFile("w+", errors="replace", buffering=1) as file:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        try:
            for descriptor in saved:
                os.dup2(file.fileno(), descriptor)
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                return work()
        except SystemExit:
            file.flush()
            file.seek(0)
            raise RuntimeError(f"Vela did not compile this: {file.read().strip() or 'it says nothing'}") from None
        finally:
            for descriptor, copy in saved.items():
                os.dup2(copy, descriptor)
                os.close(copy)
