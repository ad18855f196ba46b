"""Facts of the world outside a build: taken once, and compared later to tell whether the build would come out alike.

Nothing here trusts a file's time alone. The content of a file that was read
is taken as unchanged without reading it again only while its size, its
inode, its time of modification and its time of change (which no program can
set) are what they were, and both times are older than the record: a file
that was written as the record was may have changed again within one tick of
the file system's clock, and is read again. So does git with its index.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import platform
import site
import stat
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.files import sha256_file
from edgeq.project import HISTORY_FILE
from edgeq.records import FileFact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from edgeq.records import Inputs

TICK_NS = 2_000_000_000
"""The coarsest clock of a file system in use (FAT): younger files than this are read again."""

ABSENT = "absent"

READ_BY_LIBRARIES = (
    "ATEN_", "BLIS_", "CUDA_", "DNNL_", "EXECUTORCH_", "GLIBC_TUNABLES", "GOMP_", "KMP_", "LANG", "LC_",
    "LD_", "MALLOC_", "MKL_", "NPY_", "OMP_", "ONEDNN_", "OPENBLAS_", "ORT_", "PYTHON", "PYTORCH_", "TORCH", "TZ",
    "XNNPACK_",
)  # fmt: skip
"""Beginnings of the names of environment variables that native libraries read, where nobody can see it."""

VOLATILE = frozenset(
    {"_", "COLUMNS", "LINES", "OLDPWD", "PWD", "SHLVL", "EDGEQ_CACHE", "EDGEQ_HISTORY", "TORCHINDUCTOR_CACHE_DIR"}
)
"""Variables that differ from shell to shell, or are set by torch itself, and say nothing of data."""

_stat = os.stat
_IMPORTABLE = (".py", ".pyc", ".so")
_INSTALLED_RECORDS = (".dist-info", ".egg-info", ".egg-link", ".pth")


def changed(then: Inputs, request: Mapping[str, str], build: Path) -> str:
    """The first fact that does not hold any more, as the beginning of a sentence; empty if all of them do."""
    return (
        _differing(then.request, request, "{} is another one")
        or _differing(then.machine, machine(), "{} has changed")
        or _differing(
            then.variables,
            variables(then.variables, os.environ, every=then.every_variable),
            "the environment variable {} has changed",
        )
        or ("it ran in another folder" if then.cwd not in (None, os.getcwd()) else "")
        or _differing(then.patterns, {one: matching(one) for one in then.patterns}, "{} names other files")
        or _differing(then.kinds, {path: kind(Path(path)) for path in then.kinds}, "{} has come, gone or grown")
        or _differing(then.listings, {path: listing(Path(path), build) for path in then.listings}, "{} lists others")
        or _differing(then.found, found(then.lookups, then.folders), "another module is found in {}")
        or _code_changed(then)
        or next((f"{one.path} has changed" for one in then.files if not holds(one, then.recorded_at_ns)), "")
    )


def _differing(then: Mapping[str, object], now: Mapping[str, object], sentence: str) -> str:
    for key in (*then, *(key for key in now if key not in then)):
        if then.get(key, ABSENT) != now.get(key, ABSENT):
            return sentence.format(key or "the folders of Python")
    return ""


def _code_changed(then: Inputs) -> str:
    sha256, newest = code_sha256(then.code)
    if sha256 == then.code_sha256 and newest < then.recorded_at_ns - TICK_NS:
        return ""
    return "an installed package or library has changed"


def fact(path: Path, *, within: Path | None = None) -> FileFact:
    """A file as it is, its path relative to ``within`` if that is given; OSError if it cannot be read."""
    before = _stat(path)
    sha256 = sha256_file(path)
    return FileFact(path=str(path.relative_to(within) if within else path), sha256=sha256, **numbers(before))


def holds(then: FileFact, recorded_at_ns: int, *, within: Path | None = None) -> bool:
    """Whether a file has the content it had."""
    path = within / then.path if within else Path(then.path)
    try:
        return is_untouched(then, recorded_at_ns, _stat(path)) or sha256_file(path) == then.sha256
    except OSError:
        return False


def is_untouched(then: FileFact, recorded_at_ns: int, now: os.stat_result) -> bool:
    """Whether a file's numbers alone show that it was not written since."""
    found = numbers(now)
    return (
        found == {"size": then.size, "mtime_ns": then.mtime_ns, "ctime_ns": then.ctime_ns, "inode": then.inode}
        and max(then.mtime_ns, then.ctime_ns) < recorded_at_ns - TICK_NS
    )


def renumbered(then: FileFact, path: Path) -> FileFact:
    """A file whose content was seen to be what it was, with the numbers it has now."""
    return FileFact(path=then.path, sha256=then.sha256, **numbers(_stat(path)))


def numbers(found: os.stat_result) -> dict[str, int]:
    """The numbers of a file of which one changes when it is written."""
    return {
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
    }


def kind(path: Path, *, follow: bool = True) -> str:
    """What there is at a path: absent, a directory, a file of a size, or something else."""
    try:
        mode = _stat(path, follow_symlinks=follow)
    except (OSError, ValueError):
        return ABSENT
    if stat.S_ISDIR(mode.st_mode):
        return "directory"
    return f"file {mode.st_size}" if stat.S_ISREG(mode.st_mode) else "other"


_NOT_THE_USERS = frozenset({"__pycache__", HISTORY_FILE.parts[0]})
"""What Python and edgeq put beside a user's files, the history among it: no build depends on that."""


def listing(path: Path, build: Path) -> str:
    """A fingerprint of the names and kinds in a folder, without ``build`` and the folders that lead to it."""
    own = {build, *build.parents}
    try:
        with os.scandir(path) as entries:
            names = sorted(
                f"{entry.name} {'directory' if entry.is_dir() else 'file'}\n"
                for entry in entries
                if entry.name not in _NOT_THE_USERS
                and path / entry.name not in own
                and not _is_temporary(entry.name, build)
            )
    except OSError:
        return ABSENT
    return hashlib.sha256("".join(names).encode(errors="surrogateescape")).hexdigest()


def _is_temporary(name: str, build: Path) -> bool:
    return name.startswith((f".{build.name}.new-", f".{build.name}.old"))


def matching(pattern: str) -> tuple[str, ...]:
    """The files that an absolute pattern names, sorted, but for the history; ``**`` stands for any folders."""
    names = set(_expand(os.sep, pattern.split(os.sep)[1:]))
    return tuple(sorted(name for name in names if os.path.isfile(name) and not _is_history(name)))


def _expand(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """What may match below a folder, hidden files too, which :func:`glob.glob` finds from Python 3.11 on alone."""
    if not parts:
        yield folder
        return
    part, *rest = parts
    if not glob.has_magic(part):
        yield from _expand(os.path.join(folder, part), rest)
        return
    try:
        names = os.listdir(folder)
    except OSError:
        return
    if part != "**":
        for name in fnmatch.filter(names, part):
            yield from _expand(os.path.join(folder, name), rest)
        return
    yield from _expand(folder, rest)
    for below in (os.path.join(folder, name) for name in names):
        if os.path.isdir(below):
            yield from _expand(below, parts)
        elif not rest:
            yield below


def _is_history(name: str) -> bool:
    """Whether a file is the history of a project, or what SQLite puts beside it while it writes."""
    return f"{os.sep}{HISTORY_FILE}" in name and name.rpartition(str(HISTORY_FILE))[2] in {"", "-journal"}


def found(lookups: Mapping[str, Iterable[str]], folders: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Where modules of these names lie, in the order in which Python looks."""
    anywhere = list(dict.fromkeys([*folders, *(os.path.abspath(one) for one in sys.path)]))
    return {
        place: tuple(
            path for folder in ([place] if place else anywhere) for path in _candidates(folder, frozenset(names))
        )
        for place, names in lookups.items()
    }


def _candidates(folder: str, names: frozenset[str]) -> list[str]:
    """What an import of one of the names may find: packages are folders, modules have a suffix, programs neither."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.path
                for entry in entries
                if (entry.name in names and entry.is_dir())
                or (entry.name.partition(".")[0] in names and entry.name.endswith(_IMPORTABLE))
            )
    except OSError:
        return []


def variables(names: Iterable[str], environment: Mapping[str, str], *, every: bool) -> dict[str, str | None]:
    """Fingerprints of the environment variables of these names and of those that libraries read."""
    present = {name for name in environment if every or name.startswith(READ_BY_LIBRARIES)} - VOLATILE
    return {name: _fingerprint(environment.get(name)) for name in sorted(present.union(names))}


def _fingerprint(value: str | None) -> str | None:
    """A value may be a secret: only its fingerprint is kept."""
    return None if value is None else hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()


def code_sha256(code: Mapping[str, Iterable[str]]) -> tuple[str, int]:
    """A fingerprint of the sizes, inodes and times of modification of files by folder, and the newest of the times.

    Not of the time of change: a package manager that links files of its
    store into another environment moves it for this one.
    """
    digest, newest = hashlib.sha256(), 0
    for folder, names in code.items():
        for name in names:
            path = f"{folder}/{name}"
            try:
                found = _stat(path)
            except OSError:
                digest.update(f"{path} {ABSENT}\n".encode())
                continue
            newest = max(newest, found.st_mtime_ns)
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns} {found.st_ino}\n".encode())
    return digest.hexdigest(), newest


def machine() -> dict[str, str]:
    """What a build is made with: edgeq itself, Python, the packages that are installed and the processor."""
    return {
        "edgeq": _own_sha256(),
        "Python": f"{sys.version} {sys.flags}",
        "the set of installed packages": hashlib.sha256("\n".join(_installed()).encode()).hexdigest(),
        "the processor": hashlib.sha256(_processor().encode()).hexdigest(),
    }


def _own_sha256() -> str:
    digest, root = hashlib.sha256(), Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def _installed() -> list[str]:
    """Names with versions of all that Python finds; a package that comes or goes may be found by others."""
    names = dict.fromkeys(
        name
        for folder in sys.path
        if os.path.isdir(folder)
        for name in sorted(os.listdir(folder))
        if name.endswith(_INSTALLED_RECORDS)
    )
    return list(names)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    told = {line.partition(":")[0].strip(): line for line in reversed(lines)}
    return "\n".join([platform.machine(), *(told.get(key, "") for key in ("model name", "flags", "Features"))])


@cache
def installed_folders() -> tuple[str, ...]:
    """Where the standard library and installed packages lie, each ending in a slash."""
    known = [*_standard_folders(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    paths = [*known, *site.getsitepackages(), site.getusersitepackages()]
    return tuple(dict.fromkeys(f"{path}/" for one in paths for path in (one, os.path.realpath(one))))


@cache
def _standard_folders() -> tuple[str, ...]:
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    return tuple(dict.fromkeys(path for one in paths for path in (one, os.path.realpath(one))))


def is_installed(path: str) -> bool:
    """Whether a file belongs to the standard library or to an installed package."""
    return path.startswith(installed_folders())


def is_standard(path: str) -> bool:
    """Whether a file, or the name of frozen code, belongs to Python itself."""
    return path.startswith(("<frozen", *_standard_folders())) and "-packages/" not in path
