"""The smallest library that says what it needs."""

from __future__ import annotations

import struct

_LOADERS = {32: b"/lib/ld-linux-armhf.so.3\0", 64: b"/lib/ld-linux-aarch64.so.1\0"}


def sample_library(*versions: str, bits: int = 64) -> bytes:
    """An ELF file of Arm that wants these versions ("GLIBC_2.17") of another library, and holds nothing else."""
    wide, loader = bits == 64, _LOADERS[bits]  # noqa: PLR2004  # bits
    header, segment, entry = (64, 56, 16) if wide else (52, 32, 8)
    dynamic_at = header + 3 * segment
    strings_at = dynamic_at + 4 * entry
    strings = b"\0libc.so.6\0" + b"".join(version.encode() + b"\0" for version in versions)
    need_at = strings_at + len(strings)
    offsets = [strings.index(version.encode() + b"\0") for version in versions]
    need = struct.pack("<HHIII", 1, len(versions), 1, 16, 0)
    for index, offset in enumerate(offsets):
        need += struct.pack("<IHHII", 0, 0, index + 2, offset, 16 if index + 1 < len(offsets) else 0)
    loader_at = need_at + len(need)
    size = loader_at + len(loader)
    base = 0x400000
    elf = (b"\x7fELF\x02\x01\x01" if wide else b"\x7fELF\x01\x01\x01").ljust(16, b"\0")
    machine, form = (183, "<HHIQQQIHHHHHH") if wide else (40, "<HHIIIIIHHHHHH")
    elf += struct.pack(form, 3, machine, 1, 0, header, 0, 0, header, segment, 3, 0, 0, 0)
    for kind, at, length in ((1, 0, size), (2, dynamic_at, 4 * entry), (3, loader_at, len(loader))):
        if wide:
            elf += struct.pack("<IIQQQQQQ", kind, 4, at, base + at, base + at, length, length, 8)
        else:
            elf += struct.pack("<IIIIIIII", kind, at, base + at, base + at, length, length, 4, 4)
    for tag, value in ((5, base + strings_at), (0x6FFFFFFE, base + need_at), (0x6FFFFFFF, 1), (0, 0)):
        elf += struct.pack("<QQ" if wide else "<II", tag, value)
    return elf + strings + need + loader
