"""The systems that an emulated board can run: whose kernel, and whose programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.triple import Triple

if TYPE_CHECKING:
    from edgeq.target import EmulatedSystem


@dataclass(frozen=True, kw_only=True)
class System:
    """A system made of two locks: the kernel of one, and everything else of another, whose programs are ``triple``'s.

    ``libraries`` are patterns of the files that those programs are started
    by and load, as the packages hold them.
    """

    triple: Triple
    kernel: str
    programs: str
    libraries: tuple[str, ...]


_ARMHF = ("usr/lib/ld-linux-armhf.so.3", "usr/lib/arm-linux-gnueabihf/*.so*")

SYSTEMS: dict[EmulatedSystem, System] = {
    "arm64": System(
        triple="aarch64-linux-gnu",
        kernel="board-aarch64",
        programs="board-aarch64",
        libraries=("usr/lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu/*.so*"),
    ),
    "armhf": System(triple="arm-linux-gnueabihf", kernel="board-armhf", programs="board-armhf", libraries=_ARMHF),
    # What Raspberry Pi OS of 32 bits is on a 64-bit board: `uname -m` says aarch64, and no program there is.
    "armhf-on-arm64": System(
        triple="arm-linux-gnueabihf", kernel="board-aarch64", programs="board-armhf", libraries=_ARMHF
    ),
}
