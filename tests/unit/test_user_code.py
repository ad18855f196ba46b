from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import UserCodeError
from edgeq.user_code import UserFunction, called, find_function, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = """
def samples():
    import naming
    for index in range(3):
        from parts import counted
        yield f"{naming.NAME} {counted.number(index)}"

def name():
    import naming
    return naming.NAME

def train(module, steps, learning_rate=0.1):
    pass
"""


@pytest.fixture(autouse=True)
def _unchanged_path() -> Iterator[None]:
    before = list(sys.path)
    yield
    assert sys.path == before


def _project(folder: Path, name: str) -> Path:
    (folder / "parts").mkdir(parents=True)
    (folder / "data.py").write_text(DATA)
    (folder / "naming.py").write_text(f"NAME = {name!r}\n")
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "counted.py").write_text(f"def number(index):\n    return '{name}' + str(index)\n")
    return folder


def _items(function: UserFunction) -> object:
    return guarded(called(function, "data.py:samples"), "data.py:samples", function.home)


def test_a_function_imports_what_lies_beside_it_when_it_is_called(tmp_path: Path) -> None:
    function = find_function("data.py:name", _project(tmp_path / "one", "one"))
    assert called(function, "data.py:name") == "one"


def test_a_generator_imports_what_lies_beside_it_while_it_is_read(tmp_path: Path) -> None:
    function = find_function("data.py:samples", _project(tmp_path / "one", "one"))
    assert list(_items(function)) == ["one one0", "one one1", "one one2"]


def test_two_projects_with_modules_of_one_name_are_kept_apart_even_turn_by_turn(tmp_path: Path) -> None:
    functions = [find_function("data.py:samples", _project(tmp_path / name, name)) for name in ("one", "two")]
    assert list(zip(*map(_items, functions), strict=True)) == [
        (f"one one{index}", f"two two{index}") for index in range(3)
    ]


def test_a_modules_state_is_the_same_when_its_project_has_its_turn_again(tmp_path: Path) -> None:
    one, two = (find_function("data.py:name", _project(tmp_path / name, name)) for name in ("one", "two"))
    called(one, "f")
    sys.modules["naming"].NAME = "changed"
    assert called(two, "f") == "two"
    assert called(one, "f") == "changed"


def test_an_installed_package_inside_the_projects_folder_is_left_loaded(tmp_path: Path) -> None:
    one, two = (_project(tmp_path / name, name) for name in ("one", "two"))
    library = one / ".venv" / "site-packages"
    library.mkdir(parents=True)
    (library / "installed_here.py").write_text("")
    sys.path.insert(0, str(library))
    try:
        called(find_function("data.py:name", one), "f")
        module = __import__("installed_here")
        called(find_function("data.py:name", two), "f")
        assert sys.modules.pop("installed_here") is module
    finally:
        sys.path.remove(str(library))


def test_the_signature_is_that_of_the_users_function(tmp_path: Path) -> None:
    function = find_function("data.py:train", _project(tmp_path / "one", "one"))
    assert list(inspect.signature(function).parameters) == ["module", "steps", "learning_rate"]


EXITING = """
import sys

def at_once():
    sys.exit("no photos here")

def later():
    yield 1
    raise SystemExit(7)
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [("at_once", "raised SystemExit: no photos here"), ("later", "raised SystemExit: 7")],
)
def test_what_ends_the_process_in_the_users_code_is_an_error_of_that_code(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "data.py").write_text(EXITING)
    function = find_function(f"data.py:{name}", tmp_path)
    with pytest.raises(UserCodeError, match=words) as caught:
        list(guarded(called(function, f"data.py:{name}"), f"data.py:{name}", function.home))
    assert "data.py:" in caught.value.detail
    assert caught.value.exit_code == 2


def test_a_module_that_ends_the_process_when_it_is_loaded_is_an_error_of_that_module(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("import argparse\nargparse.ArgumentParser().exit(3)\n")
    with pytest.raises(UserCodeError, match="raised SystemExit: 3"):
        find_function("data.py:samples", tmp_path)


def test_ctrl_c_in_the_users_code_is_no_error_of_it(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("def samples():\n    raise KeyboardInterrupt\n")
    function = find_function("data.py:samples", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        called(function, "data.py:samples")
