"""Unpacking a .deb without dpkg and without root: ar around tar, as in deb(5)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from edgeq.errors import DamagedPackageError, MissingToolError
from edgeq.files import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


def unpack_deb(deb: Path, into: Path) -> None:
    """Unpack the files of ``deb`` below ``into``.

    Modes and symbolic links are kept; a link to an absolute path becomes a
    relative one to the same place below ``into``, so that the tree can
    serve as a sysroot. Where ``into`` holds a link to a folder (the
    ``lib -> usr/lib`` of a merged /usr), files go through it. Owners and
    device nodes need root and are left out. Raises DamagedPackageError,
    also for a member that would land outside ``into``.
    """
    root = into.resolve()
    with disk_errors(into):
        root.mkdir(parents=True, exist_ok=True)
        with _data_archive(deb) as archive:
            try:
                for member in archive:
                    _unpack_member(archive, member, root, deb)
            except (tarfile.TarError, EOFError) as error:
                raise DamagedPackageError(deb, str(error)) from error


@contextlib.contextmanager
def _data_archive(deb: Path) -> Iterator[tarfile.TarFile]:
    """Open the tar that holds the files of ``deb``."""
    with deb.open("rb") as file:
        name = _seek_data(file, deb)
        if name == "data.tar.zst":
            with _unzstd(file) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
                yield archive
            return
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                yield archive
        except tarfile.ReadError as error:
            raise DamagedPackageError(deb, str(error)) from error


def _seek_data(file: IO[bytes], deb: Path) -> str:
    """Move ``file`` to the first byte of the member ``data.tar*`` and return its name."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise DamagedPackageError(deb, "it is not an ar archive")
    while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
        name = header[:16].decode("latin-1").strip().rstrip("/")
        if name.startswith("data.tar"):
            return name
        size = header[48:58].strip()
        if not size.isdigit():
            break
        file.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise DamagedPackageError(deb, "it has no member data.tar")


@contextlib.contextmanager
def _unzstd(file: IO[bytes]) -> Iterator[IO[bytes]]:
    if shutil.which("zstd") is None:
        raise MissingToolError("zstd", needed_for="unpacking a Debian package", package="zstd")
    # The child reads from the descriptor's own position, not from the buffer's.
    os.lseek(file.fileno(), file.tell(), os.SEEK_SET)
    with subprocess.Popen(
        ("zstd", "-dcq"), stdin=file.fileno(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        yield cast("IO[bytes]", process.stdout)


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, deb: Path) -> None:
    path = _inside(root, member.name, deb)
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        path.mkdir(exist_ok=True)
        if not path.is_symlink():
            path.chmod(member.mode | 0o700)
        return
    path.unlink(missing_ok=True)
    if member.issym():
        path.symlink_to(_relative(member.linkname, path, root))
    elif member.islnk():
        path.hardlink_to(_inside(root, member.linkname, deb))
    elif member.isfile():
        source = archive.extractfile(member)
        with path.open("wb") as target:
            shutil.copyfileobj(cast("IO[bytes]", source), target)
        if path.stat().st_size != member.size:
            raise DamagedPackageError(deb, f"{member.name} is cut short")
        path.chmod(member.mode)


def _inside(root: Path, name: str, deb: Path) -> Path:
    """Where ``name`` lies: its folder with links followed, which must be below ``root``, and its last part as it is."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".")]
    if ".." in parts:
        raise DamagedPackageError(deb, f"{name} points out of the archive")
    if not parts:
        return root
    folder = root.joinpath(*parts[:-1]).resolve()
    if not folder.is_relative_to(root):
        raise DamagedPackageError(deb, f"{name} leads through a link out of the archive")
    return folder / parts[-1]


def _relative(link: str, path: Path, root: Path) -> str:
    if not link.startswith("/"):
        return link
    return os.path.relpath(root / link.lstrip("/"), path.parent)
