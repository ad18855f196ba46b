"""A Swift compiler for Linux, from Debian, in a folder of the cache: 0.5 GB are fetched once.

Debian has one since trixie, which newer systems' programs run in and older
ones' do not: so it runs with that folder as its root, in a mount namespace
of its own. Nothing of the machine is changed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from typing import TYPE_CHECKING

from edgeq.files import atomic_folder, cache_dir, folder_lock
from edgeq.packages import fetch_debs, unpack_deb
from edgeq.packages.locks import load_deb_lock
from edgeq.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOCK = "swift-x86_64"

# Most of the package, and no part of compiling: debuggers, language servers, other linkers' targets.
_LEFT_OUT = ("clangd", "docc", "lldb", "lldb-dap", "lldb-server", "sourcekit-lsp")

_ENTER = """\
mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --bind "$1" "$0/work" && shift &&
exec chroot "$0" "$@"
"""


def missing() -> str:
    """Why no Swift compiler can run here; empty if one can."""
    if platform.machine() != "x86_64":
        return f"the lock of the Swift compiler is for x86_64, not {platform.machine()}"
    for tool in ("unshare", "mount", "chroot"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    done = subprocess.run([*_namespace(), "true"], capture_output=True, check=False, encoding="utf-8")
    return f"this machine gives no mount namespace: {done.stderr.strip()}" if done.returncode else ""


def swift(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``swift ARGUMENTS`` with the folder ``work``, which it sees as /work; fetches the compiler if need be."""
    environment = {
        "PATH": "/usr/libexec/swift/bin:/usr/bin",
        "HOME": "/work",
        "LD_LIBRARY_PATH": "/usr/libexec/swift/lib/swift/linux",
        "EDGEQ_RUNNERS": "/work/runners",
        "EDGEQ_EXACT": "1",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.run(
        [*_namespace(), "sh", "-c", _ENTER, root(), work, "/usr/libexec/swift/bin/swift", *arguments],
        env={**environment, "PATH": f"{environment['PATH']}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        encoding="utf-8",
        timeout=600,
    )


def root() -> Path:
    """The unpacked packages."""
    wanted = load_deb_lock(LOCK).deb
    key = hashlib.sha256("".join(deb.sha256 for deb in wanted).encode()).hexdigest()[:16]
    folder = cache_dir() / "swift" / key
    with folder_lock(folder.parent):
        if not folder.is_dir():
            with atomic_folder(folder) as new:
                _unpack(fetch_debs(LOCK, progress=SILENT), new)
    return folder


def _unpack(debs: Sequence[Path], into: Path) -> None:
    for name in ("bin", "lib", "lib64"):  # a merged /usr, as Debian's own packages expect
        (into / "usr" / name).mkdir(parents=True)
        (into / name).symlink_to(f"usr/{name}")
    for deb in debs:
        unpack_deb(deb, into)
    for name in _LEFT_OUT:
        (into / "usr/libexec/swift/bin" / name).unlink()
    (into / "usr/bin/ld").symlink_to("../libexec/swift/bin/lld")  # in place of binutils
    for name in ("proc", "dev", "tmp", "work"):
        (into / name).mkdir(exist_ok=True)


def _namespace() -> list[str]:
    return ["unshare", "--mount", "--propagation", "private", *(["--map-root-user"] if os.geteuid() else [])]
