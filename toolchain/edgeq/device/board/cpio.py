"""Writing a cpio archive of the kind that the kernel unpacks as its first root.

The format is "newc" as in the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst: a header of
hexadecimal fields, a name and the content, each padded to four bytes. Owners
and device nodes are numbers in the header, so that no root rights are needed
to write them.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of the archive: ``path`` without a leading slash, ``mode`` with the bits of its kind.

    ``content`` is the data of a regular file or where a link points.
    ``device`` is the (major, minor) number of a device node.
    """

    path: str
    mode: int
    content: bytes = b""
    owner: int = 0
    device: tuple[int, int] = (0, 0)


def directory(path: str, *, mode: int = 0o755, owner: int = 0) -> Entry:
    """A folder; ``owner`` is its user and its group."""
    return Entry(path=path, mode=stat.S_IFDIR | mode, owner=owner)


def regular(path: str, content: bytes, *, mode: int = 0o644, owner: int = 0) -> Entry:
    """A regular file; ``owner`` is its user and its group."""
    return Entry(path=path, mode=stat.S_IFREG | mode, content=content, owner=owner)


def symlink(path: str, to: str) -> Entry:
    """A symbolic link."""
    return Entry(path=path, mode=stat.S_IFLNK | 0o777, content=to.encode())


def character_device(path: str, major: int, minor: int, *, mode: int) -> Entry:
    """A character device node."""
    return Entry(path=path, mode=stat.S_IFCHR | mode, device=(major, minor))


def write_cpio(entries: Iterable[Entry], file: BinaryIO) -> None:
    """Write ``entries`` to ``file``, each folder before what it holds.

    Folders that are missing are added, as the kernel drops a file whose
    folder does not exist. The same entries give the same bytes, in whatever
    order they come. Two entries of one path raise ValueError.
    """
    for inode, entry in enumerate(_in_order(entries), start=1):
        _write(file, entry, inode)
    _write(file, Entry(path=_TRAILER, mode=0), 0)


def _in_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    by_path: dict[str, Entry] = {}
    for entry in entries:
        if entry.path in by_path:
            raise ValueError(f"two entries for {entry.path}")
        by_path[entry.path] = entry
    for path in tuple(by_path):
        for parent in PurePosixPath(path).parents:
            if parent.name:
                by_path.setdefault(str(parent), directory(str(parent)))
    yield from (by_path[path] for path in sorted(by_path, key=lambda path: path.split("/")))


def _write(file: BinaryIO, entry: Entry, inode: int) -> None:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, user, group, links, time, size, device of the file system (2), of the node (2), name, checksum
    fields = (inode, entry.mode, entry.owner, entry.owner, links, 0, len(entry.content), 0, 0, *entry.device)
    header = b"070701" + b"".join(b"%08X" % field for field in (*fields, len(name), 0))
    file.write(_padded(header + name))
    file.write(_padded(entry.content))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
