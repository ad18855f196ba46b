from __future__ import annotations

import io
import stat
from typing import TYPE_CHECKING

import pytest

from edgeq.device.board.cpio import Entry, character_device, directory, regular, symlink, write_cpio

if TYPE_CHECKING:
    from collections.abc import Iterator


def _archive(*entries: Entry) -> bytes:
    file = io.BytesIO()
    write_cpio(entries, file)
    return file.getvalue()


def _read(archive: bytes) -> Iterator[tuple[str, tuple[int, ...], bytes]]:
    """An independent reading: name, the 13 fields of the header, content."""
    at = 0
    while True:
        header = archive[at : at + 110]
        assert header[:6] == b"070701"
        fields = tuple(int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13))
        size, name_size = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        at += (110 + name_size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return
        yield name[:-1].decode(), fields, archive[at : at + size]
        at += (size + 3) // 4 * 4


def test_a_file_keeps_its_content_mode_and_owner() -> None:
    archive = _archive(regular("home/me/notes", b"seven b", mode=0o600, owner=1000))
    name, fields, content = list(_read(archive))[-1]
    assert (name, content) == ("home/me/notes", b"seven b")
    assert fields[1] == stat.S_IFREG | 0o600
    assert fields[2:4] == (1000, 1000)


def test_folders_come_before_what_they_hold_and_missing_ones_are_added() -> None:
    archive = _archive(regular("a/b/c", b""), regular("a-b", b""), directory("a", mode=0o700))
    assert [name for name, _, _ in _read(archive)] == ["a", "a/b", "a/b/c", "a-b"]
    modes = {name: fields[1] for name, fields, _ in _read(archive)}
    assert modes["a"] == stat.S_IFDIR | 0o700
    assert modes["a/b"] == stat.S_IFDIR | 0o755


def test_a_link_holds_where_it_points() -> None:
    ((name, fields, content),) = _read(_archive(symlink("bin", "usr/bin")))
    assert (name, content) == ("bin", b"usr/bin")
    assert stat.S_ISLNK(fields[1])


def test_a_device_node_needs_no_root_rights() -> None:
    fields = {name: fields for name, fields, _ in _read(_archive(character_device("dev/console", 5, 1, mode=0o600)))}
    assert stat.S_ISCHR(fields["dev/console"][1])
    assert fields["dev/console"][9:11] == (5, 1)


def test_the_same_files_in_another_order_give_the_same_bytes() -> None:
    files = (regular("b", b"1"), directory("a"), regular("a/c", b"2"))
    assert _archive(*files) == _archive(*reversed(files))


def test_two_files_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="two entries for etc/passwd"):
        _archive(regular("etc/passwd", b"1"), regular("etc/passwd", b"2"))
