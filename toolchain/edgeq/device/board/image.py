"""The images of the emulated boards: a kernel of Debian's, and an archive that is its whole root.

The root is made of locked Debian packages (``locks/board-*.toml``) and
the files in ``guest/``. It is unpacked into RAM by the kernel itself, so
neither root rights nor a mount are needed to build it, and nothing that a
board does survives it.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.device.board.cpio import Entry, character_device, directory, regular, symlink, write_cpio
from edgeq.device.board.keys import board_keys
from edgeq.device.board.systems import SYSTEMS
from edgeq.errors import BoardImageError
from edgeq.files import atomic_folder, cache_dir, folder_lock, sha256_file, write_text
from edgeq.packages import resolve_debs, unpack_deb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.device.board.keys import BoardKeys
    from edgeq.progress import Progress
    from edgeq.target import EmulatedSystem

USER = "edgeq"
_USER_ID = 1000
_GUEST = Path(__file__).parent / "guest"
_FROM_PACKAGES = (
    "usr/bin/busybox",
    "usr/sbin/dropbear",
    "usr/lib/sftp-server",
    "usr/lib/openssh/sftp-server",
)
_MERGED = ("bin", "sbin", "lib")
# What a network card needs, in the order of loading; some kernels have parts of it built in.
_MODULES = ("virtio", "virtio_ring", "virtio_mmio", "failover", "net_failover", "virtio_net")
# Raise this when the code below changes what is in the image; everything else is hashed by itself.
_REVISION = 1


@dataclass(frozen=True, kw_only=True)
class Image:
    """A bootable image; ``sha256`` stands for everything it is made of."""

    sha256: str
    folder: Path

    @property
    def kernel(self) -> Path:
        """The kernel, as QEMU loads it."""
        return self.folder / "Image"

    @property
    def root(self) -> Path:
        """The root, as a cpio archive."""
        return self.folder / "root.cpio"

    @property
    def hashes(self) -> Path:
        """The hashes of both files, to find damage in the cache."""
        return self.folder / "hashes.json"

    def is_intact(self) -> bool:
        """Whether both files are as they were built."""
        try:
            return bool(json.loads(self.hashes.read_bytes()) == _hashes(self))
        except (OSError, ValueError):
            return False


def board_image(system: EmulatedSystem, *, progress: Progress) -> Image:
    """The image of this version of edgeq with that system, built by the first call.

    Raises what :func:`edgeq.packages.resolve_debs` raises, and
    BoardImageError when the packages lack a file.
    """
    facts = SYSTEMS[system]
    debs = (*_debs(facts.programs, progress, kernel=False), *_debs(facts.kernel, progress, kernel=True))
    patterns = (*_FROM_PACKAGES, *facts.libraries)
    own = tuple(_own_files(board_keys()))
    sha256 = _fingerprint(debs, patterns, own)
    image = Image(sha256=sha256, folder=cache_dir() / "board-images" / sha256[:16])
    with folder_lock(image.folder / "making"):
        if not image.hashes.is_file():
            progress.step("building the image of the emulated board")
            _build(image, debs, patterns, own)
    return image


def rebuilt_image(image: Image, system: EmulatedSystem, *, progress: Progress) -> Image:
    """The same image, built anew because its files in the cache were damaged."""
    shutil.rmtree(image.folder, ignore_errors=True)
    return board_image(system, progress=progress)


def _debs(lock: str, progress: Progress, *, kernel: bool) -> Iterator[Path]:
    """The kernel of a lock, which is its one metapackage, or everything else of it."""
    return (deb.path for deb in resolve_debs(lock, progress=progress) if bool(deb.locked.meta) is kernel)


def _fingerprint(debs: Sequence[Path], patterns: Sequence[str], own: Sequence[Entry]) -> str:
    # The packages are in the cache by the hash of their content, so their names will do.
    parts = [
        f"{_REVISION} {patterns} {_MODULES}",
        *(deb.name for deb in debs),
        *(repr(entry) for entry in own),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _build(image: Image, debs: Sequence[Path], patterns: Sequence[str], own: Sequence[Entry]) -> None:
    with atomic_folder(image.folder) as new:
        new.chmod(0o700)  # the board's private key is in there
        unpacked = new / "unpacked"
        for name in _MERGED:
            (unpacked / "usr" / name).mkdir(parents=True)
            (unpacked / name).symlink_to(f"usr/{name}")
        for deb in debs:
            unpack_deb(deb, unpacked)

        staged = Image(sha256=image.sha256, folder=new)
        _only(unpacked, "boot/vmlinuz-*").rename(staged.kernel)
        with staged.root.open("wb") as file:
            write_cpio((*own, *_from_packages(unpacked, patterns), *_modules(unpacked)), file)
        shutil.rmtree(unpacked)
        write_text(staged.hashes, json.dumps(_hashes(staged)))


def _hashes(image: Image) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in (image.kernel, image.root) if path.is_file()}


def _own_files(keys: BoardKeys) -> Iterator[Entry]:
    """What no package brings: folders, device nodes, accounts, keys and the scripts of ``guest/``."""
    for name in ("proc", "sys", "dev", "run", "mnt"):
        yield directory(name)
    yield directory("tmp", mode=0o1777)
    for name in _MERGED:
        yield symlink(name, f"usr/{name}")
    yield symlink("var/run", "/run")
    yield character_device("dev/console", 5, 1, mode=0o600)
    yield character_device("dev/null", 1, 3, mode=0o666)

    yield regular("init", (_GUEST / "init.sh").read_bytes(), mode=0o755)
    yield regular("etc/inittab", (_GUEST / "inittab").read_bytes())
    yield regular("etc/edgeq/console.sh", (_GUEST / "console.sh").read_bytes(), mode=0o755)

    yield regular(
        "etc/passwd", f"root:*:0:0:root:/root:/bin/sh\n{USER}:*:{_USER_ID}:{_USER_ID}::/home/{USER}:/bin/sh\n".encode()
    )
    yield regular("etc/group", f"root:*:0:\ntty:*:5:\n{USER}:*:{_USER_ID}:\n".encode())
    yield regular("etc/shells", b"/bin/sh\n")
    yield regular("etc/hosts", b"127.0.0.1 localhost edgeq-board\n")
    yield regular("etc/dropbear/host_key", keys.host_private, mode=0o600)
    for home, owner in (("root", 0), (f"home/{USER}", _USER_ID)):
        yield directory(home, mode=0o700, owner=owner)
        yield directory(f"{home}/.ssh", mode=0o700, owner=owner)
        yield regular(f"{home}/.ssh/authorized_keys", f"{keys.user_public}\n".encode(), mode=0o600, owner=owner)


def _from_packages(unpacked: Path, patterns: Sequence[str]) -> Iterator[Entry]:
    for pattern in patterns:
        found = sorted(unpacked.glob(pattern))
        if not found:
            raise BoardImageError(pattern)
        for path in found:
            name = str(path.relative_to(unpacked))
            if path.is_symlink():
                yield symlink(name, str(path.readlink()))
            elif path.is_file():
                yield regular(name, path.read_bytes(), mode=stat.S_IMODE(path.stat().st_mode))


def _modules(unpacked: Path) -> Iterator[Entry]:
    """The kernel modules that are not built in, under names that sort in the order of loading."""
    built_in = _only(unpacked, "usr/lib/modules/*/modules.builtin")
    builtin_names = {Path(line).stem.replace("-", "_") for line in built_in.read_text().splitlines()}
    for index, module in enumerate(_MODULES):
        if module in builtin_names:
            continue
        path = _only(built_in.parent, f"**/{module}.ko*")
        content = path.read_bytes()
        plain = lzma.decompress(content) if path.suffix == ".xz" else content
        yield regular(f"usr/lib/modules/{index}-{module}.ko", plain)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise BoardImageError(pattern)
    return found[0]
