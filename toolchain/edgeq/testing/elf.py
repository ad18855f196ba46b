"""The smallest library that says what it needs."""

from __future__ import annotations

import struct

_LOADER = b"/lib/ld-linux-aarch64.so.1\0"


def sample_library(*versions: str) -> bytes:
    """An ELF file of aarch64 that wants these versions ("GLIBC_2.17") of another library, and holds nothing else."""
    header, headers = 64, 3 * 56
    dynamic_at = header + headers
    strings_at = dynamic_at + 4 * 16
    strings = b"\0libc.so.6\0" + b"".join(version.encode() + b"\0" for version in versions)
    need_at = strings_at + len(strings)
    offsets = [strings.index(version.encode() + b"\0") for version in versions]
    need = struct.pack("<HHIII", 1, len(versions), 1, 16, 0)
    for index, offset in enumerate(offsets):
        need += struct.pack("<IHHII", 0, 0, index + 2, offset, 16 if index + 1 < len(offsets) else 0)
    loader_at = need_at + len(need)
    size = loader_at + len(_LOADER)
    base = 0x400000
    elf = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    elf += struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, header, 0, 0, 64, 56, 3, 64, 0, 0)
    for kind, at, length in ((1, 0, size), (2, dynamic_at, 64), (3, loader_at, len(_LOADER))):
        elf += struct.pack("<IIQQQQQQ", kind, 4, at, base + at, base + at, length, length, 8)
    for tag, value in ((5, base + strings_at), (0x6FFFFFFE, base + need_at), (0x6FFFFFFF, 1), (0, 0)):
        elf += struct.pack("<QQ", tag, value)
    return elf + strings + need + _LOADER
