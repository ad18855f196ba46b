"""The user's functions: found by name, called at home, and whatever they raise told as theirs, with their own line.

At home means that the modules beside a function can be imported, by a line
inside of it too. Two projects in one process may have modules of the same
name: those of the one are put away while a function of the other runs.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgeq import errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_END = object()

_RAISED = (Exception, SystemExit)
"""What the user's code may raise without it being the user's wish to stop edgeq, as Ctrl-C is."""


@dataclass(frozen=True)
class Home:
    """Where a function of the user's finds the modules beside it: its ``folder``, in the project at ``root``."""

    root: Path
    folder: Path

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let the modules beside the function be imported while the block runs.

        They stay loaded after it, until a function of another project runs.
        """
        path = str(self.folder)
        _PRESENT.begin(self)
        sys.path.insert(0, path)
        try:
            yield
        finally:
            with suppress(ValueError):  # the user's code may have removed it
                sys.path.remove(path)
            _PRESENT.end()


@dataclass
class _Present:
    """Which project's own modules are loaded under their names, and those of others that are put away."""

    homes: list[Home] = field(default_factory=list)
    root: Path | None = None
    folders: dict[Path, set[Path]] = field(default_factory=dict)
    away: dict[Path, dict[str, ModuleType]] = field(default_factory=dict)

    def begin(self, home: Home) -> None:
        self.homes.append(home)
        self.folders.setdefault(home.root, set()).add(home.folder)
        self._change_to(home.root)

    def end(self) -> None:
        self.homes.pop()
        if self.homes:  # a function of one project has called one of another
            self._change_to(self.homes[-1].root)

    def _change_to(self, root: Path) -> None:
        if root == self.root:
            return
        if self.root is not None:
            folders = self.folders[self.root]
            own = [name for name, module in sys.modules.items() if _lies_in(folders, name, module)]
            self.away[self.root] = {name: sys.modules.pop(name) for name in own}
        sys.modules.update(self.away.pop(root, {}))
        self.root = root


_PRESENT = _Present()


def _lies_in(folders: set[Path], name: str, module: object) -> bool:
    """Whether a module was found by its name in one of ``folders``, and not deeper: they may hold an environment."""
    known = getattr(module, "__dict__", {})  # asking for an attribute would wake modules that load lazily
    file = known.get("__file__") or next(iter(known.get("__path__") or ()), None)
    head = name.partition(".")[0]
    return isinstance(file, str) and any(
        Path(file) == folder / f"{head}.py" or Path(file).is_relative_to(folder / head) for folder in folders
    )


@dataclass(frozen=True)
class UserFunction:
    """A function of the user's, called where its neighbours can be imported; ``home`` is None for an installed one."""

    function: Callable[..., Any]
    home: Home | None

    def __call__(self, *args: object, **kwargs: object) -> Any:  # noqa: ANN401  # the user's own
        """What the function gives."""
        with at_home(self.home):
            return self.function(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """For :func:`inspect.signature`."""
        return self.function

    @property
    def note(self) -> str:
        """What the user says of the data, beside it."""
        return str(getattr(self.function, "note", ""))


def at_home(home: Home | None) -> AbstractContextManager[None]:
    """Enter a home, if there is one."""
    return home.entered() if home is not None else nullcontext()


@dataclass(frozen=True)
class _Given:
    """What a function would return, where the user's module holds it ready."""

    items: Any

    def __call__(self) -> object:
        return self.items

    @property
    def note(self) -> str:
        return str(getattr(self.items, "note", ""))


def find_function(reference: str, root: Path, *, or_iterable: bool = False) -> UserFunction:
    """The function named by ``file.py:function`` (below ``root``) or ``package.module:function``.

    With ``or_iterable``, the name may also be that of what such a function would return.
    """
    source, colon, name = reference.partition(":")
    if not colon or not name:
        raise errors.BadReferenceError(reference, "it has no ':function' part")
    home = Home(root, (root / source).parent) if source.endswith(".py") else None
    module = _imported(source, reference) if home is None else _module_of_file(root / source, home, reference)
    function = getattr(module, name, None)
    if or_iterable and not callable(function) and hasattr(function, "__iter__"):
        return UserFunction(_Given(function), home)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise errors.BadReferenceError(
            reference, f"there is no function {name!r} in {source}", errors.did_you_mean(name, known)
        )
    return UserFunction(function, home)


def _module_of_file(path: Path, home: Home, reference: str) -> Any:  # noqa: ANN401  # a module's content is the user's
    if not path.is_file():
        raise errors.BadReferenceError(reference, f"{path} does not exist")
    # One name for one file, so that a model and its data may import each other's module.
    name = f"_edgeq_project_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise errors.BadReferenceError(reference, f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with home.entered():
            spec.loader.exec_module(module)
    except _RAISED as error:
        del sys.modules[name]
        raise errors.UserCodeError(reference, told(error), line_of_user(error)) from error
    return module


def _imported(name: str, reference: str) -> Any:  # noqa: ANN401  # a module's content is the user's
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise errors.BadReferenceError(
            reference, f"no module named {error.name!r}", "install it, or write file.py:function"
        ) from error
    except _RAISED as error:
        raise errors.UserCodeError(reference, told(error), line_of_user(error)) from error


def called(factory: Callable[..., Any], reference: str, *args: object, **kwargs: object) -> object:
    """What the user's function gives for these arguments; UserCodeError if it raises."""
    try:
        return factory(*args, **kwargs)
    except errors.EdgeqError:
        raise
    except _RAISED as error:
        raise errors.UserCodeError(reference, told(error), line_of_user(error)) from error


def guarded(iterable: Any, reference: str, home: Home | None) -> Iterator[object]:  # noqa: ANN401  # whatever the user's function gave
    """The items of a user's iterable, each made at ``home``; what it raises becomes an error with the user's own line.

    An iterator is never closed here: the user may have made it outside the
    function, and the next pass goes on with it.
    """
    if not hasattr(iterable, "__iter__") and hasattr(iterable, "__getitem__") and hasattr(iterable, "__len__"):
        iterable = map(iterable.__getitem__, range(len(iterable)))  # a torch Dataset need not know where it ends
    try:
        with at_home(home):
            items = iter(iterable)
        while True:
            with at_home(home):
                item = next(items, _END)
            if item is _END:
                return
            yield item
    except (errors.EdgeqError, GeneratorExit):
        raise
    except _RAISED as error:
        raise errors.UserCodeError(reference, told(error), line_of_user(error)) from error


def length(items: object) -> int | None:
    """How many items there are, if the user's iterable says so."""
    try:
        return len(items)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001  # a length is welcome, never needed; a DataLoader may raise anything for it
        return None


def told(error: BaseException) -> str:
    """An exception in a line: its kind and the first line of what it says."""
    first_line = str(error).strip().splitlines()[:1]
    return f"{type(error).__name__}: {first_line[0]}" if first_line else type(error).__name__


def line_of_user(error: BaseException) -> str:
    """The innermost line of the traceback that lies neither in edgeq nor in an installed package."""
    frames = traceback.extract_tb(error.__traceback__)
    own = str(Path(__file__).parent)
    outside = [f for f in frames if not f.filename.startswith((own, sys.prefix, sys.base_prefix, "<"))]
    if not outside:
        return ""
    frame = outside[-1]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"
