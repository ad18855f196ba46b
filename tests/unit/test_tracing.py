from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeq import tracing, world
from edgeq.schema import to_json
from edgeq.tracing import recording
from edgeq.user_code import called, find_function, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeq.records import Inputs

REQUEST = {"the target": "a board"}


@pytest.fixture(autouse=True)
def without_the_tools_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native packages that other tests loaded into this process would count as ones of the user's."""
    strange = tracing._Loaded.now().native - tracing._WATCHED
    for name in [name for name in sys.modules if name.partition(".")[0] in strange]:
        monkeypatch.delitem(sys.modules, name)


DATA = """
import glob, os, socket, sqlite3, subprocess, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from helping import scale
HERE = Path(__file__).parent

def samples():
    import later
    yield scale((HERE / "weights.bin").read_bytes())
    yield [Path(name).read_bytes() for name in sorted(glob.glob(str(HERE / "photos" / "*.jpg")))]
    yield os.environ.get("SHADE"), os.path.exists(HERE / "extra.txt"), os.path.isdir(HERE / "more")
    try:
        import tuning
    except ImportError:
        pass
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(Path.read_text, HERE / "in_a_thread.txt").result()
    (HERE / "made.txt").write_text("made")
    yield (HERE / "made.txt").read_text()

def from_here():
    return Path("beside_the_caller.txt").read_text()

def whole_environment():
    return dict(os.environ)

def program():
    return subprocess.run(["true"], check=True)

def network():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))

def database():
    sqlite3.connect(":memory:").close()

def worker():
    if os.fork() == 0:
        os._exit(0)
    os.wait()

def resources():
    import importlib.resources, pkgutil
    import packed
    text = importlib.resources.files(packed).joinpath("weights.bin").read_text()
    return text + pkgutil.get_data("packed", "more.bin").decode()

def in_a_folder_that_it_would_make():
    os.makedirs(HERE / "photos", exist_ok=True)
    (HERE / "photos").mkdir(exist_ok=True)
    try:
        open(HERE / "photos" / "one.jpg", "x")
    except FileExistsError:
        pass
    return (HERE / "photos" / "one.jpg").read_bytes()

def logging_what_it_does():
    with (HERE / "log.txt").open("a") as file:
        file.write("called")

def rewritten():
    (HERE / "weights.bin").read_bytes()
    (HERE / "weights.bin").write_bytes(b"something longer than before")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # As if the process began now: this very file may have been written just before it did.
    monkeypatch.setattr(tracing, "_PROCESS_STARTED_NS", time.time_ns() + world.TICK_NS)
    folder = tmp_path / "project"
    (folder / "photos").mkdir(parents=True)
    for name, text in {
        "data.py": DATA,
        "helping.py": "def scale(data):\n    return data\n",
        "later.py": "",
        "weights.bin": "1234",
        "photos/one.jpg": "one",
        "photos/two.jpg": "two",
        "in_a_thread.txt": "read in a thread",
    }.items():
        (folder / name).write_text(text)
    _forget_modules_of_tests(tmp_path.parent)
    for name, module in list(sys.modules.items()):  # test files that the same process has run are no project's sources
        if _file(module).startswith(str(Path(__file__).parents[1])):
            monkeypatch.delitem(sys.modules, name)
    yield folder
    _forget_modules_of_tests(tmp_path.parent)


def _forget_modules_of_tests(folder: Path) -> None:
    """Modules of other tests' projects stay loaded, and are facts of a trace in the same process."""
    for name, module in list(sys.modules.items()):
        if _file(module).startswith(str(folder)):
            del sys.modules[name]


def _file(module: object) -> str:
    return str(getattr(module, "__dict__", {}).get("__file__", ""))


def _record(project: Path, function: str = "samples", patterns: tuple[str, ...] = ()) -> Inputs:
    with recording(project.parent / "build") as trace:
        result = called(find_function(f"data.py:{function}", project), function)
        if hasattr(result, "__next__"):
            list(guarded(result, function, find_function(f"data.py:{function}", project).home))
        return trace.inputs(REQUEST, outputs=(), folders=(str(project),), patterns=patterns, unrepeatable=())


def _changed(then: Inputs, project: Path) -> str:
    return world.changed(then, REQUEST, project.parent / "build")


def _same_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes().swapcase()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a weight file": lambda p: (p / "weights.bin").write_text("4321"),
    "a source file": lambda p: (p / "data.py").write_text(DATA + "#"),
    "an imported helper": lambda p: (p / "helping.py").write_text("def scale(data):\n    return data[1:]\n"),
    "a helper that is imported later": lambda p: (p / "later.py").write_text("X = 1\n"),
    "a photo's bytes, with size and time kept": lambda p: _same_size_and_time(p / "photos" / "one.jpg"),
    "a new file in a globbed folder": lambda p: (p / "photos" / "three.jpg").write_text("three"),
    "a file that went from there": lambda p: (p / "photos" / "two.jpg").unlink(),
    "a file that did not exist": lambda p: (p / "extra.txt").touch(),
    "a folder that did not exist": lambda p: (p / "more").mkdir(),
    "a file that a thread read": lambda p: (p / "in_a_thread.txt").write_text("read in a shread"),
    "a module that could not be imported": lambda p: (p / "tuning.py").touch(),
    "a module that hides one of Python's": lambda p: (p / "glob.py").touch(),
    "a weight file that is a link now": lambda p: _linked(p / "weights.bin", p / "in_a_thread.txt"),
}


def _linked(path: Path, to: Path) -> None:
    path.unlink()
    path.symlink_to(to)


@pytest.mark.parametrize("change", CHANGES)
def test_every_kind_of_change_is_noticed(change: str, project: Path) -> None:
    then = _record(project)
    assert not _changed(then, project)
    assert not then.unseen
    CHANGES[change](project)
    assert _changed(then, project)


def test_a_variable_that_the_users_code_read_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    then = _record(project)
    monkeypatch.setenv("SHADE", "dark")
    assert _changed(then, project) == "the environment variable SHADE has changed"


def test_a_variable_that_only_native_libraries_read_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    then = _record(project)
    monkeypatch.setenv("OMP_DYNAMIC", "true")
    assert _changed(then, project) == "the environment variable OMP_DYNAMIC has changed"


def test_code_that_reads_the_whole_environment_depends_on_all_of_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = _record(project, "whole_environment")
    monkeypatch.setenv("ANYTHING", "else")
    assert _changed(then, project)


def test_no_value_of_a_variable_is_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHADE", "open sesame")
    assert "open sesame" not in str(_record(project))


KEPT: dict[str, Callable[[Path], object]] = {
    "a touched file": lambda p: (p / "weights.bin").touch(),
    "a touched source": lambda p: os.utime(p / "data.py", (0, 0)),
    "a file written with the same content": lambda p: (p / "weights.bin").write_text("1234"),
    "a file that nobody read": lambda p: (p / "README.md").write_text("read me"),
    "a module that nobody looked for": lambda p: (p / "unrelated.py").touch(),
    "another current folder": lambda p: os.chdir(p / "photos"),
    "another variable": lambda _: os.environ.update(UNRELATED="1"),
    "a build beside the project": lambda p: (p.parent / "build").mkdir(),
}


@pytest.mark.parametrize("change", KEPT)
def test_what_was_no_input_changes_nothing(change: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNRELATED", "0")
    monkeypatch.chdir(project)
    then = _record(project)
    KEPT[change](project)
    assert not _changed(then, project)


def test_code_that_reads_from_the_current_folder_depends_on_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "beside_the_caller.txt").write_text("text")
    then = _record(project, "from_here")
    assert not _changed(then, project)
    monkeypatch.chdir(project / "photos")
    assert _changed(then, project) == "it ran in another folder"


def test_folders_that_the_users_code_adds_to_pythons_path_are_looked_in(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (project / "shared").mkdir()
    (project / "shared" / "common.py").touch()
    (project / "data.py").write_text(
        f"import sys\nsys.path.append({str(project / 'shared')!r})\nimport common\ndef samples():\n    return None\n"
    )
    then = _record(project)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(project / "shared")])
    assert not _changed(then, project)
    (project / "common.py").touch()
    assert _changed(then, project)


def test_the_data_of_a_package_are_inputs_however_they_are_read(project: Path) -> None:
    (project / "packed").mkdir()
    for name in ("__init__.py", "weights.bin", "more.bin"):
        (project / "packed" / name).write_text("")
    then = _record(project, "resources")
    assert not _changed(then, project)
    (project / "packed" / "more.bin").write_text("more")
    assert "more.bin has changed" in _changed(then, project)
    then = _record(project, "resources")
    (project / "packed" / "weights.bin").write_text("heavier")
    assert "weights.bin has changed" in _changed(then, project)


def test_what_code_would_have_made_but_was_there_is_an_input(project: Path) -> None:
    then = _record(project, "in_a_folder_that_it_would_make")
    assert not _changed(then, project)
    _same_size_and_time(project / "photos" / "one.jpg")
    assert _changed(then, project) == f"{project / 'photos' / 'one.jpg'} has changed"


def test_a_log_that_is_only_written_is_no_input(project: Path) -> None:
    (project / "log.txt").write_text("begun\n")
    then = _record(project, "logging_what_it_does")
    assert not then.unseen
    (project / "log.txt").write_text("rotated\n")
    assert not _changed(then, project)


def test_a_name_that_is_no_text_does_not_end_the_build(project: Path) -> None:
    name = os.fsdecode(b"odd-\xff.bin")
    (project / name).write_text("odd")
    (project / "data.py").write_text(
        "from pathlib import Path\ndef samples():\n"
        "    return [path.read_bytes() for path in Path(__file__).parent.glob('*.bin')]\n"
    )
    then = _record(project)
    assert "cannot be written down" in then.unseen[0]
    assert to_json(then)


def test_another_request_is_named(project: Path) -> None:
    then = _record(project)
    assert world.changed(then, {"the target": "another"}, project) == "the target is another one"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("program", "starts another program"),
        ("network", "uses the network"),
        ("database", "opens a database"),
        ("worker", "starts worker processes"),
        ("rewritten", "was written while it was used"),
    ],
)
def test_what_cannot_be_traced_is_said_with_the_users_line(function: str, words: str, project: Path) -> None:
    unseen = _record(project, function).unseen
    assert len(unseen) == 1
    assert words in unseen[0]
    assert unseen[0].startswith(str(project))


def test_a_runtime_that_reads_for_itself_is_found_in_the_users_imports(project: Path) -> None:
    (project / "data.py").write_text("def samples():\n    return None\n\ndef unused():\n    import onnxruntime\n")
    assert "imports onnxruntime, which opens files in native code" in _record(project).unseen[0]


@pytest.mark.parametrize(
    "source",
    [
        "import onnxruntime as ort",
        "def late():\n    from onnxruntime import InferenceSession",
        "from torchvision import io",
        "import torchvision\ndef late():\n    return torchvision.io.read_image('x')",
        "import torchvision as tv\ndef late():\n    return tv.io.read_image('x')",
        "import torch\ndef late():\n    return torch.package.PackageImporter('x')",
    ],
)
def test_modules_that_read_for_themselves_are_found_by_whatever_name(source: str, tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(source)
    assert tracing._imported_by(str(tmp_path / "data.py")) & tracing._READ_BY_THEMSELVES


@pytest.mark.parametrize("module", ["sqlalchemy", "psycopg"])
def test_a_history_that_was_open_before_is_no_input_but_a_users_own_database_is(module: str, project: Path) -> None:
    importlib.import_module(module)
    assert _record(project).unseen == ()
    (project / "data.py").write_text(f"def samples():\n    return None\n\ndef unused():\n    import {module}\n")
    assert f"imports {module}, which opens files in native code" in _record(project).unseen[0]


def test_a_native_library_that_no_module_stands_for_is_noticed(project: Path) -> None:
    pytest.importorskip("cffi")
    library = next(path for path in tracing._mapped_libraries() if path.rpartition("/")[2].startswith("libm."))
    shutil.copy2(library, project / "libsound.so")  # with its time: it stays mapped while other tests run
    (project / "data.py").write_text(
        "from pathlib import Path\nfrom cffi import FFI\n"
        "def samples():\n    global HELD\n    HELD = FFI().dlopen(str(Path(__file__).parent / 'libsound.so'))\n"
    )
    assert any("libsound.so is native code" in text for text in _record(project).unseen)


def test_a_compiled_form_that_is_not_of_the_source_is_noticed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert not _record(project).unseen
    before = (project / "helping.py").stat()
    (project / "helping.py").write_text("def scale(data):\n    return atad\n")
    os.utime(project / "helping.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    _forget_modules_of_tests(project)
    (text,) = _record(project).unseen
    assert text.startswith("Python took ")
    assert "helping.py as it is now" in text


def test_files_that_the_user_names_make_up_for_what_cannot_be_seen(project: Path) -> None:
    then = _record(project, "database", (str(project / "photos/**"),))
    assert not then.unseen
    (project / "photos" / "deeper").mkdir()
    assert not _changed(then, project)
    (project / "photos" / "deeper" / "new.jpg").touch()
    assert "names other files" in _changed(then, project)


def test_a_named_file_counts_by_its_content(project: Path) -> None:
    then = _record(project, "database", (str(project / "photos/*.jpg"),))
    _same_size_and_time(project / "photos" / "one.jpg")
    assert _changed(then, project) == f"{project / 'photos' / 'one.jpg'} has changed"


def test_naming_files_does_not_make_up_for_the_network(project: Path) -> None:
    assert _record(project, "network", (str(project / "photos/**"),)).unseen


def test_a_module_from_before_the_block_may_be_older_than_its_file(project: Path) -> None:
    find_function("data.py:samples", project)
    assert any("had been loaded by this process before" in text for text in _record(project).unseen)


def test_nothing_is_watched_once_the_block_has_ended(project: Path) -> None:
    before = (os.stat, os.lstat, os.getcwd, type(os.environ._data))
    _record(project)
    assert (os.stat, os.lstat, os.getcwd, type(os.environ._data)) == before


def test_a_file_is_only_trusted_unread_when_it_is_older_than_the_record(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_text("old")
    old = world.fact(path)
    path.write_text("new")
    lying = world.renumbered(old, path)
    now = time.time_ns()
    assert not world.holds(lying, now)
    assert world.holds(lying, now + 10 * world.TICK_NS)


def test_a_program_that_is_called_as_a_module_is_none(tmp_path: Path) -> None:
    (tmp_path / "tqdm").write_text("#!/bin/sh\n")
    (tmp_path / "torch").mkdir()
    (tmp_path / "numpy.py").touch()
    found = world.found({str(tmp_path): ("tqdm", "torch", "numpy")}, ())
    assert found[str(tmp_path)] == (str(tmp_path / "numpy.py"), str(tmp_path / "torch"))
