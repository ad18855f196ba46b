from __future__ import annotations

import gzip
import io
import lzma
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import DamagedPackageError
from edgeq.packages import unpack_deb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _file(name: str, data: bytes, mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = mode
    return info, data


def _folder(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    info.mode = mode
    return info, b""


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info, b""


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _ar(*members: tuple[str, bytes]) -> bytes:
    data = b"!<arch>\n"
    for name, content in members:
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        data += b"\n" * (len(content) % 2)
    return data


def _deb(path: Path, *members: tuple[tarfile.TarInfo, bytes], name: str = "data.tar", data: bytes = b"") -> Path:
    path.write_bytes(_ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (name, data or _tar(*members))))
    return path


def test_files_keep_their_content_and_mode(tmp_path: Path) -> None:
    deb = _deb(tmp_path / "a.deb", _folder("./usr"), _folder("./usr/bin"), _file("./usr/bin/tool", b"run", 0o755))

    unpack_deb(deb, tmp_path / "root")

    tool = tmp_path / "root" / "usr" / "bin" / "tool"
    assert tool.read_bytes() == b"run"
    assert stat.S_IMODE(tool.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("name", "pack"),
    [("data.tar.xz", lzma.compress), ("data.tar.gz", gzip.compress), ("data.tar/", bytes)],
)
def test_every_compression_is_understood(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    deb = _deb(tmp_path / "a.deb", name=name, data=pack(_tar(_file("./x", b"1"))))

    unpack_deb(deb, tmp_path / "root")

    assert (tmp_path / "root" / "x").read_bytes() == b"1"


def test_an_absolute_link_points_to_the_same_place_below_the_root(tmp_path: Path) -> None:
    deb = _deb(
        tmp_path / "a.deb",
        _file("./lib/libm.so.6", b"m"),
        _link("./usr/lib/libm.so", "/lib/libm.so.6"),
        _link("./usr/lib/other", "libm.so"),
    )

    unpack_deb(deb, tmp_path / "root")

    link = tmp_path / "root" / "usr" / "lib" / "libm.so"
    assert str(link.readlink()) == "../../lib/libm.so.6"
    assert link.read_bytes() == b"m"
    assert str(link.with_name("other").readlink()) == "libm.so"


def test_a_merged_usr_stays_merged(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    deb = _deb(tmp_path / "a.deb", _folder("./lib"), _file("./lib/libc.so.6", b"c"))

    unpack_deb(deb, root)

    assert (root / "lib").is_symlink()
    assert (root / "usr" / "lib" / "libc.so.6").read_bytes() == b"c"


def test_a_hard_link_is_one_file(tmp_path: Path) -> None:
    deb = _deb(tmp_path / "a.deb", _file("./a", b"1"), _link("./b", "./a", tarfile.LNKTYPE))

    unpack_deb(deb, tmp_path / "root")

    assert (tmp_path / "root" / "b").samefile(tmp_path / "root" / "a")


def test_a_second_unpacking_replaces_files_and_links(tmp_path: Path) -> None:
    for data in (b"old", b"new"):
        deb = _deb(tmp_path / "a.deb", _file("./f", data), _link("./l", "f"))
        unpack_deb(deb, tmp_path / "root")

    assert (tmp_path / "root" / "l").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["../evil", "./a/../../evil"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    deb = _deb(tmp_path / "a.deb", _file(name, b"1"))

    with pytest.raises(DamagedPackageError, match="out of the archive"):
        unpack_deb(deb, tmp_path / "root")

    assert not (tmp_path / "evil").exists()


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    deb = _deb(tmp_path / "a.deb", _link("./out", ".."), _file("./out/evil", b"1"))

    with pytest.raises(DamagedPackageError, match="through a link"):
        unpack_deb(deb, tmp_path / "root")

    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", _ar(("debian-binary", b"2.0\n")), b"!<arch>\n" + b"x" * 60],
    ids=["empty", "zip", "no data", "bad header"],
)
def test_what_is_no_package_is_refused(tmp_path: Path, data: bytes) -> None:
    deb = tmp_path / "a.deb"
    deb.write_bytes(data)

    with pytest.raises(DamagedPackageError):
        unpack_deb(deb, tmp_path / "root")


def test_a_package_cut_short_is_refused_wherever_the_cut_is(tmp_path: Path) -> None:
    packed = lzma.compress(_tar(_file("./a", os.urandom(50_000))))
    whole = _deb(tmp_path / "a.deb", name="data.tar.xz", data=packed).read_bytes()

    for cut in range(0, len(whole) - 16, 997):
        (tmp_path / "cut.deb").write_bytes(whole[:cut])
        with pytest.raises(DamagedPackageError):
            unpack_deb(tmp_path / "cut.deb", tmp_path / f"root{cut}")
