"""What the files of a runner need of the system they are started on, read from the files themselves.

Source of the format: System V ABI, "ELF Header", "Program Header", "Dynamic
Section"; its version sections in the Linux Standard Base, "Symbol Versioning".
Files of 64 and of 32 bits differ in where their tables are; the version
sections are the same.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_STRTAB = 0, 5
_DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where an ELF file has what is read of it, in the notation of :mod:`struct`.

    ``header`` gives the offset of the program headers, the size of one and
    their number; ``segment`` the kind, the offset in the file, the address
    and the size in the file of one; ``dynamic`` a tag and its value.
    """

    header: str
    segment: str
    dynamic: str


_LAYOUTS = {
    b"\x7fELF\x01\x01": _Layout(header="<28xI10xHH", segment="<III4xI", dynamic="<II"),
    b"\x7fELF\x02\x01": _Layout(header="<32xQ14xHH", segment="<I4xQQ8xQ", dynamic="<QQ"),
}
"""By the magic number: 32 and 64 bits, both little-endian."""
_MAGIC_SIZE = 6


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The oldest versions of glibc ("2.28") and of GLIBCXX ("3.4.22") that will do; empty if any does."""

    glibc: str = ""
    glibcxx: str = ""


def floor_of(files: Iterable[Path]) -> Floor:
    """What those files need together; a file that is no ELF file needs nothing."""
    names = {name for path in files for name in needed_versions(path.read_bytes())}
    return Floor(glibc=_newest(names, "GLIBC"), glibcxx=_newest(names, "GLIBCXX"))


def loader_of(executable: Path) -> str:
    """The path of the dynamic linker that a program names, empty if it names none or is no ELF file."""
    data = executable.read_bytes()
    if not is_elf(data):
        return ""
    try:
        for kind, offset, _, size in _segments(data):
            if kind == _PT_INTERP:
                return data[offset : offset + size].rstrip(b"\0").decode("ascii", "replace")
    except (struct.error, OverflowError):
        pass  # damaged: nothing can be told of it
    return ""


def is_elf(data: bytes) -> bool:
    """Whether this is the start of a little-endian ELF file."""
    return data[:_MAGIC_SIZE] in _LAYOUTS


def version_key(version: str) -> tuple[int, ...]:
    """For comparing: "2.28" is newer than "2.4"."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def needed_versions(data: bytes) -> frozenset[str]:
    """The versions of symbols ("GLIBC_2.17") that an ELF file wants of other libraries; none if it is damaged."""
    if not is_elf(data):
        return frozenset()
    try:
        return frozenset(_needed(data))
    except (struct.error, ValueError, OverflowError):
        return frozenset()


def _needed(data: bytes) -> Iterator[str]:
    segments = list(_segments(data))
    entry = struct.Struct(_LAYOUTS[data[:_MAGIC_SIZE]].dynamic)
    dynamic = {}
    for kind, offset, _, size in segments:
        if kind == _PT_DYNAMIC:
            for tag, value in entry.iter_unpack(data[offset : offset + size // entry.size * entry.size]):
                if tag == _DT_NULL:
                    break
                dynamic[tag] = value
    if not {_DT_VERNEED, _DT_STRTAB} <= dynamic.keys():
        return
    strings = _offset(segments, dynamic[_DT_STRTAB])
    need = _offset(segments, dynamic[_DT_VERNEED])
    for _ in range(dynamic.get(_DT_VERNEEDNUM, 0)):
        _, count, _, first, following = struct.unpack_from("<HHIII", data, need)
        version = need + first
        for _ in range(count):
            _, _, _, name, next_version = struct.unpack_from("<IHHII", data, version)
            yield data[strings + name : data.index(b"\0", strings + name)].decode("ascii", "replace")
            if not next_version:
                break
            version += next_version
        if not following:
            break
        need += following


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Kind, offset in the file, address and size in the file of each program header."""
    layout = _LAYOUTS[data[:_MAGIC_SIZE]]
    table, size, count = struct.unpack_from(layout.header, data, 0)
    for index in range(count):
        yield struct.unpack_from(layout.segment, data, table + index * size)


def _offset(segments: Iterable[tuple[int, int, int, int]], address: int) -> int:
    """Where in the file the byte is that is loaded at ``address``."""
    for kind, offset, start, size in segments:
        if kind == _PT_LOAD and start <= address < start + size:
            return offset + address - start
    raise ValueError("an address outside of every segment")


def _newest(names: Iterable[str], library: str) -> str:
    found = [match[1] for name in names if (match := re.fullmatch(rf"{library}_(\d+(?:\.\d+)+)", name))]
    return max(found, key=version_key, default="")
