"""What a block of work depended on: the files, folders, modules and variables that the user's code asked for.

Python tells an audit hook of every file that is opened and every folder that
is listed, in whatever thread. What it does not tell (whether a file exists,
environment variables, the current folder) is seen by recording stand-ins in
the module ``os``. Whose doing an event is tells the stack: the innermost
frame that is edgeq's decides, and only two of its modules call the user's
code. What edgeq does itself is no input: it follows from its sources, which
are a fact of their own.

Reading that native code does by itself cannot be seen. It is noticed by the
libraries that are loaded for it, and told in :attr:`Trace.unseen`.

The hook and the stand-ins are one mechanism with one state, which can be
installed once in a process: they stay in one module, long as it is.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import marshal
import os
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.util import source_from_cache
from itertools import starmap
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq import world
from edgeq.files import sha256_file
from edgeq.records import FileFact, Inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

_OWN = f"{Path(__file__).parent}/"
_CALL_USERS_CODE = frozenset({f"{_OWN}user_code.py", f"{_OWN}model.py"})
_IMPORT_SYSTEM = ("<frozen importlib", f"{os.path.dirname(os.__file__)}/importlib/metadata/")
_KERNEL = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/dev/random", "/dev/zero", "/dev/tty", "/dev/pts/")

_PROCESSES = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"})
_WORKERS = frozenset({"os.fork", "os.forkpty"})
_NETWORK = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind"})
_NATIVE_CALLS = {"sqlite3.connect": "a database", "ctypes.dlopen": "a native library"}

_WATCHED = frozenset(
    {
        "PIL", "_cffi_backend", "_sodium", "bcrypt", "charset_normalizer", "contourpy", "cryptography", "ethosu",
        "executorch", "google", "greenlet", "kiwisolver", "lz4", "markupsafe", "ml_dtypes", "msgpack", "msgspec",
        "nacl", "numexpr", "numpy", "onnx", "onnxruntime", "orjson", "pandas", "psutil", "psycopg_binary",
        "pydantic_core", "regex", "rpds", "scipy", "simplejson", "skimage", "sklearn", "sqlalchemy", "torch",
        "torchao", "torchvision", "tosa_serializer", "ujson", "xxhash", "yaml", "zstandard",
    }
)  # fmt: skip
"""Packages with native code that open files through Python alone; and the runtimes, what compiles for an Ethos-U, and
what the history is kept with: sources are searched for those."""

_WATCHED_LIBRARIES = frozenset({"pillow", "Pillow", "scikit_learn", "protobuf", "nvidia", "triton"})
"""Folders of shared libraries that belong to such packages under another name."""

_FOUNDATION = (
    "ld-linux", "libblas", "libbz2", "libc.", "libcrypto", "libdl", "libexpat", "libffi", "libgcc_s", "libgfortran",
    "libgomp", "liblapack", "liblzma", "libm.", "libmvec", "libncurses", "libnss", "libopenblas", "libpthread",
    "libpython", "libquadmath", "libreadline", "libresolv", "librt", "libsqlite3", "libssl", "libstdc++", "libtinfo",
    "libutil", "libuuid", "libz.", "libzstd",
)  # fmt: skip
"""Beginnings of the names of system libraries that read no data of a user's by themselves (sqlite tells)."""

_REMEDY = "name its files in [data] files"

_READ_BY_THEMSELVES = frozenset(
    {"onnxruntime", "executorch", "torch.package", "torchvision.io", "sqlalchemy", "psycopg"}
)
"""Modules that are loaded by edgeq or by watched packages as well: only their names in the user's own sources tell."""

_PYC_HEADER = 16

_TORCH_READERS = ("from_file", "UntypedStorage.from_file", "jit.load", "export.load")
"""Functions of torch that open a path in native code; each is given the path first."""


@dataclass
class Trace:
    """What has been seen so far. ``unseen`` are sentences; True where naming the files makes up for it."""

    build: Path
    loaded_before: frozenset[str] = frozenset()
    started_in: str = field(default_factory=os.getcwd)
    started_with: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    made_with: dict[str, str] = field(default_factory=world.machine)
    mapped_before: frozenset[str] = field(default_factory=lambda: frozenset(_mapped_libraries()))
    looked_in: frozenset[str] = field(default_factory=lambda: frozenset(sys.path))
    files: dict[str, tuple[os.stat_result, str]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    listings: dict[str, str] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    every_variable: bool = False
    cwd: str | None = None
    made: set[str] = field(default_factory=set)
    compiled: dict[str, str] = field(default_factory=dict)
    unseen: dict[str, bool] = field(default_factory=dict)

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        """Note one audit event."""
        if event == "import":
            self.modules.add(args[0])
        elif event in _HEARD and (frame := _users_frame()) is not None:
            self._noted(event, args, frame)

    def _noted(self, event: str, args: tuple[Any, ...], frame: FrameType) -> None:
        where = _line(frame)
        if event == "open":
            self._opened(args[0], args[2], frame)
        elif event in ("os.listdir", "os.scandir"):
            if not _imports(frame) and not isinstance(args[0], int):
                self._listed(args[0])
        elif event in ("os.mkdir", "tempfile.mkdtemp"):
            self._made_if_absent(self._absolute(args[0]))
        elif event == "os.rename":
            self.made.add(self._absolute(args[1]))
        elif event in _PROCESSES:
            self.unseen[f"{where} starts another program, and what that depends on cannot be seen"] = False
        elif event in _WORKERS:
            self.worker(where)
        elif event in _NETWORK:
            self.unseen[f"{where} uses the network, where data may change at any time"] = False
        elif not (event == "ctypes.dlopen" and args[0] is None):
            self.unseen[f"{where} opens {_NATIVE_CALLS[event]}, and what that reads cannot be seen"] = True

    def worker(self, where: str) -> None:
        """Note that a process of Python's was started to do a part of the work."""
        self.unseen[f"{where} starts worker processes (num_workers), and what they read cannot be seen"] = True

    def _absolute(self, path: Any) -> str:  # noqa: ANN401  # a name, bytes, a path or None
        name = os.fsdecode(path or ".")
        if not os.path.isabs(name):
            self.cwd = self.started_in
        return os.path.normpath(os.path.join(_getcwd(), name))

    def _opened(self, path: Any, flags: int, frame: FrameType) -> None:  # noqa: ANN401  # whatever was opened
        if isinstance(path, int):
            return
        name = self._absolute(path)
        if name.endswith((".py", ".pyc")) and _imports(frame):
            self._imported(name)
        elif flags & os.O_TRUNC:
            self.made.add(name)
        elif flags & os.O_EXCL:
            self._made_if_absent(name)
        elif flags & os.O_ACCMODE != os.O_WRONLY:  # what is only appended to tells nothing
            self.read(name)

    def _imported(self, name: str) -> None:
        """Note the source of a module, whether it or its compiled form was opened."""
        if world.is_installed(name) or name.startswith(_OWN):
            return
        source = name
        if name.endswith(".pyc"):
            with contextlib.suppress(ValueError, NotImplementedError):
                source = source_from_cache(name)
                self.compiled[source] = name
        self.read(source)

    def _made_if_absent(self, name: str) -> None:
        """Note what is about to be made, unless it is there already: then that fails, and the old is what is read."""
        if world.kind(Path(name), follow=False) == world.ABSENT:
            self.made.add(name)

    def opened(self, path: Any) -> None:  # noqa: ANN401  # a path, or a file that Python has opened
        """Note a path that native code is about to read."""
        if isinstance(path, str | bytes | os.PathLike) and _users_frame() is not None:
            self.read(self._absolute(path))

    def read(self, name: str) -> None:
        """Note a file that is about to be read: as it is now."""
        if name in self.files or name.startswith(_KERNEL) or self.is_own(name):
            return
        try:
            found = _real_stat(name)
        except OSError:
            self.kinds.setdefault(name, world.ABSENT)
            return
        kind = world.kind(Path(name))
        if not kind.startswith("file"):
            if kind == "other":
                self.unseen[f"{name} is a device or a pipe, which is read once"] = False
            return
        # What is as young as a tick of the clock may change now without a trace: its content is taken at once.
        young = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < world.TICK_NS
        self.files[name] = (found, sha256_file(Path(name)) if young else "")

    def _listed(self, path: Any) -> None:  # noqa: ANN401  # a name, bytes, a path or None
        name = self._absolute(path)
        if name not in self.listings and not name.startswith(_KERNEL) and not self.is_own(name):
            self.listings[name] = world.listing(Path(name), self.build)

    def asked(self, path: Any, *, follow: bool = True) -> None:  # noqa: ANN401  # whatever os.stat takes
        """Note that somebody looked what there is at a path."""
        frame = None if isinstance(path, int) else _users_frame()
        if frame is None or _imports(frame):
            return
        name = self._absolute(path)
        if name not in self.kinds and not name.startswith(_KERNEL) and not self.is_own(name):
            self.kinds[name] = world.kind(Path(name), follow=follow)

    def is_own(self, name: str) -> bool:
        """Whether a path was made by the block itself, or lies in something that was."""
        return name in self.made or any(str(parent) in self.made for parent in Path(name).parents)

    def inputs(
        self,
        request: Mapping[str, str],
        *,
        outputs: tuple[FileFact, ...],
        folders: tuple[str, ...],
        patterns: tuple[str, ...],
        unrepeatable: tuple[str, ...],
    ) -> Inputs:
        """Everything the block depended on, for the record."""
        recorded_at = time.time_ns()
        loaded = _Loaded.now()
        added = [os.path.abspath(folder) for folder in sys.path if folder not in self.looked_in]
        folders = tuple(dict.fromkeys([*folders, *added]))
        named = {pattern: world.matching(pattern) for pattern in patterns}
        for name in (*loaded.own, *(file for files in named.values() for file in files)):
            self.read(name)
        unseen = {
            **self.unseen,
            **dict.fromkeys(unrepeatable, False),
            **dict.fromkeys(self._unseen_imports(loaded), True),
            **dict.fromkeys(self._loaded_before(loaded), False),
            **dict.fromkeys(filter(None, starmap(_out_of_date, sorted(self.compiled.items()))), False),
        }
        for name in (*self.files, *self.kinds, *self.listings):
            if not name.isprintable():
                unseen[f"the name {name!a} cannot be written down"] = False
                for known in (self.files, self.kinds, self.listings):
                    known.pop(name, None)
        files = []
        for name, (before, sha256) in sorted(self.files.items()):
            try:
                now = world.fact(Path(name))
            except OSError:
                unseen[f"{name} went away while it was used"] = False
                continue
            if sha256 != now.sha256 if sha256 else world.numbers(before) != world.numbers(os.stat(name)):
                unseen[f"{name} was written while it was used"] = False
            files.append(now)
        lookups = _lookups(self.modules, folders)
        code_sha256, newest = world.code_sha256(loaded.installed)
        if newest > _PROCESS_STARTED_NS - world.TICK_NS or self.made_with != world.machine():
            unseen["an installed package, or edgeq itself, was written while it was used"] = False
        return Inputs(
            recorded_at_ns=recorded_at,
            request=dict(request),
            machine=self.made_with,
            variables=world.variables(self.variables, self.started_with, every=self.every_variable),
            every_variable=self.every_variable,
            files=tuple(files),
            code=loaded.installed,
            code_sha256=code_sha256,
            listings=self.listings,
            kinds={path: kind for path, kind in self.kinds.items() if not self.is_own(path) or kind == world.ABSENT},
            patterns=named,
            folders=folders,
            lookups=lookups,
            found=world.found(lookups, folders),
            cwd=self.cwd,
            outputs=outputs,
            unseen=tuple(
                f"{text} ({_REMEDY})" if made_up_for else text
                for text, made_up_for in unseen.items()
                if not (made_up_for and patterns)
            ),
        )

    def _unseen_imports(self, loaded: _Loaded) -> Iterator[str]:
        for name in sorted(loaded.native - _WATCHED):
            yield f"{name} opens files in native code, which cannot be seen"
        for library in sorted(set(_mapped_libraries()) - self.mapped_before):
            if not _is_watched(library):
                yield f"{library} is native code, and what that reads cannot be seen"
        for name in loaded.own:
            for module in sorted(_imported_by(name) & _READ_BY_THEMSELVES):
                yield f"{name} imports {module}, which opens files in native code"

    def _loaded_before(self, loaded: _Loaded) -> Iterator[str]:
        """Modules that may be older in memory than on disk: from a block before this one in the same process."""
        for name in loaded.own:
            before, _ = self.files.get(name, (None, ""))
            young = before and max(before.st_mtime_ns, before.st_ctime_ns) > _PROCESS_STARTED_NS - world.TICK_NS
            if young and name in self.loaded_before:
                yield f"{name} had been loaded by this process before, and may have changed since"


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """Modules and libraries in memory: the user's ``own`` sources, what is ``installed`` by folder, native packages."""

    own: tuple[str, ...]
    installed: dict[str, tuple[str, ...]]
    native: frozenset[str]

    @classmethod
    def now(cls) -> _Loaded:
        own, installed, native = set(), set(_mapped_libraries()), set()
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__dict__", {}).get("__file__")  # an attribute would wake lazy modules
            if not isinstance(file, str) or name == "__main__" or file.startswith(_OWN):
                continue
            path = os.path.abspath(file)
            if path.endswith(".so") and not world.is_standard(path):
                native.add(name.partition(".")[0])
            if world.is_installed(path):
                installed.add(path)
            else:
                own.add(path)
        by_folder: dict[str, list[str]] = {}
        for path in sorted(installed):
            folder, _, name = path.rpartition("/")
            by_folder.setdefault(folder, []).append(name)
        return cls(
            own=tuple(sorted(own)),
            installed={folder: tuple(names) for folder, names in by_folder.items()},
            native=frozenset(native),
        )


def _mapped_libraries() -> Iterator[str]:
    """Every file whose code is mapped into this process."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and "x" in parts[1] and parts[5].startswith("/"):  # noqa: PLR2004  # the format of maps
            yield parts[5]


def _is_watched(library: str) -> bool:
    """Whether a shared library belongs to Python, to a package that is watched, or to the system's own foundation."""
    if world.is_standard(library):
        return True
    _, site, inside = library.rpartition("-packages/")
    name = inside.partition("/")[0].partition(".")[0] if site else ""
    return name in _WATCHED | _WATCHED_LIBRARIES or (not site and library.rpartition("/")[2].startswith(_FOUNDATION))


def _out_of_date(source: str, compiled: str) -> str:
    """What to say if Python has run a compiled form that is not the source's: it compares size and second alone."""
    try:
        data, found = Path(compiled).read_bytes(), _real_stat(source)
        flags, second, size = struct.unpack_from("<III", data, 4)
        if not flags and (second, size) != (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF):
            return ""  # Python saw that as well, and took the source
        ran = marshal.loads(data[_PYC_HEADER:])  # noqa: S302  # Python itself has just run it
        if ran == compile(Path(source).read_bytes(), source, "exec", dont_inherit=True):
            return ""
    except OSError:
        return ""  # there is none
    except (SyntaxError, ValueError, EOFError, TypeError, struct.error):
        pass
    return f"Python took {compiled}, which is not of {source} as it is now (delete it)"


def _imported_by(source: str) -> set[str]:
    """The modules that a Python source names, in its imports or by way of them, and the packages they lie in."""
    try:
        tree = ast.parse(Path(source).read_bytes()) if source.endswith(".py") else ast.Module([], [])
    except (OSError, SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
            known.update((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
            known.update((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            names.add(f"{known.get(first, first)}{dot}{rest}")
    return {".".join(parts[: end + 1]) for parts in (name.split(".") for name in names) for end in range(len(parts))}


def _lookups(modules: set[str], folders: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The names that modules were looked for under: anywhere (""), and in each folder of a package of the user's."""
    names: dict[str, set[str]] = {"": {name.partition(".")[0] for name in (*modules, *sys.modules)}}
    for name in modules:
        parent, _, last = name.rpartition(".")
        for folder in getattr(sys.modules.get(parent), "__path__", ()) if parent else ():
            if not world.is_installed(f"{folder}/") and not f"{folder}/".startswith(_OWN):
                names.setdefault(folder, set()).add(last)
    return {place: tuple(sorted(found)) for place, found in sorted(names.items()) if place not in folders}


def _users_frame() -> FrameType | None:
    """The innermost frame, if it works for the user's code; None if edgeq itself is at work."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # the stack is what tells
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    innermost = frame
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OWN):
            return innermost if file in _CALL_USERS_CODE else None
        frame = frame.f_back
    return innermost  # a thread that the user's code has started


def _line(frame: FrameType) -> str:
    """The innermost line of the user's own that has led to ``frame``; that of a package if there is none."""
    outer: FrameType | None = frame
    while outer is not None and world.is_installed(outer.f_code.co_filename):
        outer = outer.f_back
    if outer is None or outer.f_code.co_filename.startswith(_OWN):
        outer = frame
    return f"{outer.f_code.co_filename}:{outer.f_lineno}"


def _imports(frame: FrameType) -> bool:
    """Whether the import system is at work, whose finds are recorded as modules."""
    inner: FrameType | None = frame
    while inner is not None and not inner.f_code.co_filename.startswith(_IMPORT_SYSTEM):
        if not world.is_standard(inner.f_code.co_filename):
            return False
        inner = inner.f_back
    return inner is not None


_HEARD = frozenset(
    {"open", "os.listdir", "os.scandir", "os.mkdir", "tempfile.mkdtemp", "os.rename", *_NATIVE_CALLS}
    | _PROCESSES | _WORKERS | _NETWORK
)  # fmt: skip
_TRACES: list[Trace] = []
_BUSY = threading.local()
_real_stat, _getcwd = os.stat, os.getcwd


def _started_ns() -> int:
    """When this process began, by the clock of the file system."""
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return time.time_ns() - age_ns


_PROCESS_STARTED_NS = _started_ns()


def _tell(note: Callable[[Trace], None]) -> None:
    """Let every trace note something, unless that is a trace's own doing."""
    if getattr(_BUSY, "now", False):
        return
    _BUSY.now = True
    try:
        for trace in _TRACES:
            note(trace)
    finally:
        _BUSY.now = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _TRACES and (event == "import" or event in _HEARD):
        _tell(lambda trace: trace.heard(event, args))


class _WatchedEnvironment(dict[bytes, bytes]):
    """What ``os.environ`` holds, telling which variables the user's code asks for."""

    def __getitem__(self, key: bytes) -> bytes:
        _tell(lambda trace: _asked_for_variable(trace, os.fsdecode(key)))
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[bytes]:
        _tell(lambda trace: _asked_for_variable(trace, None))
        return super().__iter__()


def _asked_for_variable(trace: Trace, name: str | None) -> None:
    if _users_frame() is None:
        return
    if name is None:
        trace.every_variable = True
    else:
        trace.variables.add(name)


@contextlib.contextmanager
def recording(build: Path) -> Iterator[Trace]:
    """Note what the block depends on; ``build`` is the folder that it fills, which is no input."""
    trace = Trace(build=build.absolute(), loaded_before=frozenset(_Loaded.now().own))
    if not _TRACES:
        _install_hook()
    _TRACES.append(trace)
    try:
        with _stand_ins():
            yield trace
    finally:
        _TRACES.remove(trace)


@cache
def _install_hook() -> None:
    """Listen from now on: Python has no way to stop it."""
    sys.addaudithook(_hook)


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Functions that tell of what Python's audit events do not, in the place of the real ones while the block runs."""
    with contextlib.ExitStack() as stack:
        for name in ("stat", "access"):
            stack.enter_context(_replaced(os, name, _telling(getattr(os, name), lambda trace, path: trace.asked(path))))
        lstat = _telling(os.lstat, lambda trace, path: trace.asked(path, follow=False))
        stack.enter_context(_replaced(os, "lstat", lstat))
        for name in ("getcwd", "getcwdb"):
            stack.enter_context(_replaced(os, name, _telling(getattr(os, name), lambda trace, _: trace.asked("."))))
        watched = _WatchedEnvironment(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001  # no other door
        for holder in (os.environ, os.environb):
            stack.enter_context(_replaced(holder, "_data", watched))
        start = _telling(BaseProcess.start, lambda trace, _: _worker_started(trace))
        stack.enter_context(_replaced(BaseProcess, "start", start))
        torch = sys.modules.get("torch")
        for reader in _TORCH_READERS if torch else ():
            holder, name = _holder(torch, reader)
            if holder is not None:
                told = _telling(getattr(holder, name), lambda trace, path: trace.opened(path))
                stack.enter_context(_replaced(holder, name, told))
        yield


def _holder(module: Any, dotted: str) -> tuple[Any, str]:  # noqa: ANN401  # a module or a class
    """What holds the last of dotted names, None if a part of it was never imported."""
    *path, name = dotted.split(".")
    for part in path:
        module = getattr(module, "__dict__", {}).get(part)
    return (module, name) if hasattr(module, name) else (None, name)


def _telling(function: Callable[..., Any], note: Callable[[Trace, Any], None]) -> Callable[..., Any]:
    """The function, told of with its first argument each time it is called."""

    @functools.wraps(function)
    def telling(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # any function
        first = args[0] if args else kwargs.get("path", ".")
        if not kwargs.get("dir_fd"):
            _tell(lambda trace: note(trace, first))
        return function(*args, **kwargs)

    return telling


def _worker_started(trace: Trace) -> None:
    frame = _users_frame()
    if frame is not None:
        trace.worker(_line(frame))


@contextlib.contextmanager
def _replaced(holder: Any, name: str, value: object) -> Iterator[None]:  # noqa: ANN401  # a module, class or object
    """Put ``value`` in the place of an attribute while the block runs."""
    own = name in vars(holder)
    before = vars(holder).get(name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        if own:
            setattr(holder, name, before)
        else:
            delattr(holder, name)
