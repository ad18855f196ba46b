"""The user's functions: found by name, and whatever they raise told as theirs, with their own line."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class _Given:
    """What a function would return, where the user's module holds it ready."""

    items: Any

    def __call__(self) -> object:
        return self.items

    @property
    def note(self) -> str:
        return str(getattr(self.items, "note", ""))


def find_function(reference: str, root: Path, *, or_iterable: bool = False) -> Callable[[], Any]:
    """The function named by ``file.py:function`` (below ``root``) or ``package.module:function``.

    With ``or_iterable``, the name may also be that of what such a function would return.
    """
    source, colon, name = reference.partition(":")
    if not colon or not name:
        raise errors.BadReferenceError(reference, "it has no ':function' part")
    module = _module_of_file(root / source, reference) if source.endswith(".py") else _imported(source, reference)
    function = getattr(module, name, None)
    if or_iterable and not callable(function) and hasattr(function, "__iter__"):
        return _Given(function)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise errors.BadReferenceError(
            reference, f"there is no function {name!r} in {source}", errors.did_you_mean(name, known)
        )
    return function  # type: ignore[no-any-return]


def _module_of_file(path: Path, reference: str) -> Any:  # noqa: ANN401  # a module's content is the user's
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
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise errors.UserCodeError(reference, told(error), line_of_user(error)) from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _imported(name: str, reference: str) -> Any:  # noqa: ANN401  # a module's content is the user's
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise errors.BadReferenceError(
            reference, f"no module named {error.name!r}", "install it, or write file.py:function"
        ) from error
    except Exception as error:
        raise errors.UserCodeError(reference, told(error), line_of_user(error)) from error


def called(factory: Callable[..., Any], reference: str, *args: object, **kwargs: object) -> object:
    """What the user's function gives for these arguments; UserCodeError if it raises."""
    try:
        return factory(*args, **kwargs)
    except errors.EdgeqError:
        raise
    except Exception as error:
        raise errors.UserCodeError(reference, told(error), line_of_user(error)) from error


def guarded(iterable: Any, reference: str) -> Iterator[object]:  # noqa: ANN401  # whatever the user's function gave
    """The items of a user's iterable; what it raises becomes an error with the user's own line."""
    if not hasattr(iterable, "__iter__") and hasattr(iterable, "__getitem__") and hasattr(iterable, "__len__"):
        iterable = map(iterable.__getitem__, range(len(iterable)))  # a torch Dataset need not know where it ends
    try:
        yield from iterable
    except (errors.EdgeqError, GeneratorExit):
        raise
    except Exception as error:
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
