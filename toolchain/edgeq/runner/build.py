"""The native runner: built from its sources and pinned packages once for each change of either, or as edgeq brought it.

An installed edgeq brings executables that were built when it was packed
(``edgeq/runners/TRIPLE``); the runtimes' libraries come through pip either way.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import (
    BuildFailedError,
    DiskFullError,
    MissingSourcesError,
    MissingToolError,
    NoRuntimeError,
)
from edgeq.files import atomic_folder, cache_dir, folder_lock, sha256_file, write_bytes
from edgeq.packages import fetch_wheel, resolve_debs, unpack_deb
from edgeq.packages.locks import load_wheel_lock, lock_path
from edgeq.runner.notices import notices, notices_name
from edgeq.triple import KINDS, Engine, Triple, named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.packages.locks import LockedWheel
    from edgeq.progress import Progress

SYSROOTS: dict[Triple, str] = {
    "aarch64-linux-gnu": "sysroot-aarch64",
    "arm-linux-gnueabihf": "sysroot-armhf",
    "x86_64-linux-gnu": "sysroot-x86-64",
}
"""The lock of the C and C++ libraries that a runner of each triple is compiled against: older than any board's."""

_BUILDS = "x86_64-linux-gnu"
"""Where artifacts are built and scored; all kinds of machine that build have the runtimes of one version."""

# What lies beside the runner on a device, by the project whose wheel holds it: name there -> member of the wheel.
# Of ExecuTorch these are the runtime, the XNNPACK delegate and all kernels.
_LIBRARIES: dict[str, dict[str, str]] = {
    "executorch": {
        f"libexecutorch{part}.so": f"executorch/lib/libexecutorch{part}.so"
        for part in ("", "_backend_xnnpack", "_kernels_optimized", "_kernels_quantized", "_threadpool")
    },
    "onnxruntime": {"libonnxruntime.so.1": "onnxruntime/capi/libonnxruntime.so.{version}"},
    # Another project's, which carries an ONNX Runtime for 32-bit Arm; PyPI has no wheel of ONNX Runtime's own for it.
    "sherpa-onnx-core": {"libonnxruntime.so.1": "sherpa_onnx/lib/libonnxruntime.so"},
}

_IN_THE_PACKAGE = Path(__file__).parent / "sources"
_BESIDE_THE_PACKAGE = Path(__file__).parents[2] / "runner"
_PREBUILT = Path(__file__).parents[1] / "runners"
_NOTICES = Path(__file__).parent / "notices"

# A user's flags for other projects are no part of the pins.
_NOT_OURS = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH")

_OUTPUT_SHOWN = 4000


@dataclass(frozen=True, kw_only=True)
class RunnerBundle:
    """What must lie on a device for one engine: ``files`` maps each name there to the file here.

    ``runtime_version`` is what runs there, ``built_with`` the version that
    artifacts for it are built with: not every kind of machine has the same.
    """

    engine: Engine
    triple: Triple
    runtime_version: str
    built_with: str
    executable: str
    files: dict[str, Path]
    sha256: str


def sources_dir() -> Path:
    """The C++ sources."""
    return _IN_THE_PACKAGE if _IN_THE_PACKAGE.is_dir() else _BESIDE_THE_PACKAGE


def bundle(engine: Engine, triple: str, *, progress: Progress, test_faults: bool = False) -> RunnerBundle:
    """The runner of ``engine`` for machines of ``triple``, made ready if its sources or pins have changed.

    An executable that came with edgeq is taken if it is of these very
    sources and pins; else one is compiled. One with ``test_faults`` can be
    told to be slow or to leak: it is for tests of the measurement, and never
    comes with edgeq. Raises UnknownNameError, NoRuntimeError, MissingToolError,
    BuildFailedError, MissingSourcesError and what fetching packages raises.
    """
    if engine not in KINDS[named(triple)].engines:
        raise NoRuntimeError(engine, triple)
    key = build_hash(engine, triple, test_faults=test_faults)
    home = cache_dir() / "runners" / key[:16]
    folder = home / triple
    if not folder.is_dir():
        with folder_lock(home):
            # Another process may have made it while this one waited.
            if not folder.is_dir():
                _make(engine, triple, key, home, progress, test_faults=test_faults)
    return _bundle_in(folder, engine, triple)


def is_built(engine: Engine, triple: str) -> bool:
    """Whether :func:`bundle` finds that runner ready; raises MissingSourcesError if it could never make it."""
    return (cache_dir() / "runners" / build_hash(engine, triple)[:16] / triple).is_dir()


def came_along(engine: Engine, triple: str) -> bool:
    """Whether that runner's executable came with edgeq, so that :func:`bundle` needs no compiler."""
    return _prebuilt(engine, triple, build_hash(engine, triple)) is not None


def build_tools(triple: str) -> tuple[tuple[str, str], ...]:
    """The programs that building a runner for ``triple`` takes, the compiler last, each with its Debian package."""
    own = triple == f"{platform.machine()}-linux-gnu"
    package = "g++" if own else f"g++-{triple.replace('_', '-')}"
    return (("cmake", "cmake"), ("make", "make"), (f"{triple}-g++", package))


def build_hash(engine: Engine, triple: str, *, test_faults: bool = False) -> str:
    """A hash of everything that decides how the runner comes out."""
    sources = sources_dir()
    if not (sources / "CMakeLists.txt").is_file():
        raise MissingSourcesError(sources)
    digest = hashlib.sha256(f"{engine} {triple}{' with faults for tests' if test_faults else ''}\n".encode())
    for path in sorted(_source_files(sources)):
        digest.update(f"{path.relative_to(sources)} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    for path in (Path(__file__), *sorted(_NOTICES.glob("*.*"))):
        digest.update(path.read_bytes())
    digest.update(_wheel_name(engine, triple).encode())
    for lock in ("wheels", "onnxruntime-headers", SYSROOTS[named(triple)]):
        digest.update(lock_path(lock).read_bytes())
    return digest.hexdigest()


def _source_files(sources: Path) -> Iterator[Path]:
    for path in sources.rglob("*"):
        if path.is_file() and not path.name.endswith(("_test.cc", ".md")):
            yield path


def _executable(engine: Engine) -> str:
    return f"edgeq-runner-{engine}"


def _wheel_name(engine: Engine, triple: str) -> str:
    return f"{engine}-{triple}"


def _bundle_in(folder: Path, engine: Engine, triple: str) -> RunnerBundle:
    executable = _executable(engine)
    locked = _locked(engine, triple)
    names = (executable, *_LIBRARIES[locked.project], notices_name(engine))
    return RunnerBundle(
        engine=engine,
        triple=named(triple),
        runtime_version=locked.runtime_version,
        built_with=runtime_version(engine, _BUILDS),
        executable=executable,
        files={name: folder / name for name in names},
        sha256=sha256_file(folder / executable),
    )


def _prebuilt(engine: Engine, triple: str, key: str) -> Path | None:
    """The executable that came with edgeq, if it was built from what ``key`` is the hash of: it says so itself."""
    path = _PREBUILT / triple / _executable(engine)
    return path if path.is_file() and key.encode() in path.read_bytes() else None


def _make(  # noqa: PLR0913  # what to make, and where
    engine: Engine, triple: str, key: str, home: Path, progress: Progress, *, test_faults: bool
) -> None:
    """Put the executable, compiled where none came along, and the runtime's libraries into ``home``/TRIPLE."""
    executable = _prebuilt(engine, triple, key)
    if executable is None:
        _check_tools(triple)
    wheel = fetch_wheel(_wheel_name(engine, triple), progress=progress)
    home.mkdir(parents=True, exist_ok=True)
    for leftover in home.glob(".build-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=home) as temporary:
        work = Path(temporary)
        members = _extract(wheel, _locked(engine, triple), work / "wheel")
        if executable is None:
            executable = _compile(engine, triple, key, work, progress, test_faults=test_faults)
        with atomic_folder(home / triple) as folder:
            write_bytes(folder / _executable(engine), executable.read_bytes(), mode=0o755)
            for name, member in members.items():
                member.rename(folder / name)
            text = notices(engine, _licensed(wheel, engine, triple, progress), runtime_version(engine, triple))
            write_bytes(folder / notices_name(engine), text.encode())


def _compile(  # noqa: PLR0913  # what to compile, and where
    engine: Engine, triple: str, key: str, work: Path, progress: Progress, *, test_faults: bool
) -> Path:
    sources = sources_dir()
    if engine == "onnxruntime":
        runtime = _unpacked("onnxruntime-headers", progress) / "usr" / "include" / "onnxruntime"
    else:
        runtime = work / "wheel" / "executorch"
    options = {
        "CMAKE_TOOLCHAIN_FILE": sources / "cmake" / "debian-cross.cmake",
        "EDGEQ_SYSROOT": _unpacked(SYSROOTS[named(triple)], progress),
        "EDGEQ_ENGINE": engine,
        "EDGEQ_TRIPLE": triple,
        "EDGEQ_BUILD": key,
        "EDGEQ_RUNTIME": runtime,
        "EDGEQ_VERSION": runtime_version(engine, triple),
        "EDGEQ_WERROR": "OFF",
        "EDGEQ_TEST_FAULTS": "ON" if test_faults else "OFF",
    }
    progress.step(f"building the {engine} runner for {triple}")
    out = work / "out"
    defined = [f"-D{name}={value}" for name, value in options.items()]
    _run(["cmake", "-S", str(sources), "-B", str(out), "-G", "Unix Makefiles", *defined])
    _run(["cmake", "--build", str(out), "--parallel", str(min(os.cpu_count() or 1, 4))])
    return out / _executable(engine)


def _check_tools(triple: str) -> None:
    for tool, provider in build_tools(triple):
        if shutil.which(tool) is None:
            raise MissingToolError(tool, needed_for="building the native runner", package=provider)


def _unpacked(lock: str, progress: Progress) -> Path:
    """The packages of a lock as one tree, kept in the cache under the hash of what they are."""
    debs = resolve_debs(lock, progress=progress)
    key = hashlib.sha256(" ".join(deb.fetched.sha256 for deb in debs).encode()).hexdigest()[:16]
    tree = cache_dir() / "unpacked" / f"{lock}-{key}"
    if not tree.is_dir():
        progress.step(f"unpacking {lock}")
        with atomic_folder(tree) as folder:
            for deb in debs:
                unpack_deb(deb.path, folder)
    return tree


def _licensed(wheel: Path, engine: Engine, triple: str, progress: Progress) -> Path:
    """The wheel with the licences of the runtime in ``wheel``: where that is another project's, the runtime's own."""
    if _locked(engine, triple).project == engine:
        return wheel
    return fetch_wheel(_wheel_name(engine, _BUILDS), progress=progress)


def runtime_version(engine: Engine, triple: str) -> str:
    """The version of the runtime that the runner of ``engine`` carries."""
    return _locked(engine, triple).runtime_version


def _locked(engine: Engine, triple: str) -> LockedWheel:
    name = _wheel_name(engine, triple)
    return next(wheel for wheel in load_wheel_lock().wheel if wheel.name == name)


def _extract(wheel: Path, locked: LockedWheel, into: Path) -> dict[str, Path]:
    """Unpack headers and libraries; the libraries by the name they have on a device."""
    members = {name: member.format(version=locked.version) for name, member in _LIBRARIES[locked.project].items()}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name in members.values() or name.startswith("executorch/include/"):
                archive.extract(name, into)
    return {name: into / member for name, member in members.items()}


def _run(argv: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    environment |= {"LC_ALL": "C"}
    done = subprocess.run(
        argv,
        env={name: value for name, value in environment.items() if not name.startswith("CMAKE_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        if "No space left" in done.stdout:
            raise DiskFullError(cache_dir())
        raise BuildFailedError("the native runner", done.stdout[-_OUTPUT_SHOWN:])
