"""The native runner, really built: what it needs of a device, when it is built again, how a build fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from edgeq.errors import BuildFailedError, MissingSourcesError, MissingToolError
from edgeq.files import cache_dir, sha256_file
from edgeq.packages import fetch_wheel
from edgeq.progress import Silent
from edgeq.runner import Engine, RunnerBundle, build, bundle

if TYPE_CHECKING:
    from pathlib import Path

AARCH64 = "aarch64-linux-gnu"
X86_64 = "x86_64-linux-gnu"
ENGINES: tuple[Engine, ...] = ("executorch", "onnxruntime")


class Said:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def advance(self, done: int, total: int | None = None) -> None:
        pass


@pytest.fixture(autouse=True)
def _tools() -> None:
    for tool in ("cmake", "make", "x86_64-linux-gnu-g++", "aarch64-linux-gnu-g++", "readelf"):
        if shutil.which(tool) is None:
            if "CI" in os.environ:
                pytest.fail(f"{tool} is not installed")
            pytest.skip(f"{tool} is not installed")


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without runners; packages are those of the user's."""
    bundle("onnxruntime", X86_64, progress=Silent())
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("wheels", "debs", "unpacked"):
        (cache / name).symlink_to(cache_dir() / name)
    monkeypatch.setenv("EDGEQ_CACHE", str(cache))
    return cache


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "sources"
    shutil.copytree(build.sources_dir(), copy)
    monkeypatch.setattr(build, "sources_dir", lambda: copy)
    return copy


def _programs(built: RunnerBundle) -> list[Path]:
    """The runner and its libraries, without the text of their licences."""
    return [path for path in built.files.values() if path.suffix != ".txt"]


def _needs(path: Path, symbol: str) -> tuple[int, ...]:
    """The newest version of ``symbol`` (GLIBC, GLIBCXX) that a binary refers to."""
    output = subprocess.run(["readelf", "-VW", path], capture_output=True, text=True, check=True).stdout
    wanted = output[output.index("Version needs") :]
    versions = re.findall(rf"\b{symbol}_([0-9.]+)", wanted)
    return max((tuple(map(int, version.split("."))) for version in versions), default=())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("triple", "machine"), [(AARCH64, "AArch64"), (X86_64, "X86-64")])
def test_what_goes_to_a_board_runs_on_a_board_of_years_ago(engine: Engine, triple: str, machine: str) -> None:
    built = bundle(engine, triple, progress=Silent())

    for path in _programs(built):
        assert _needs(path, "GLIBC") <= (2, 28)
        assert _needs(path, "GLIBCXX") <= (3, 4, 28)
        header = subprocess.run(["readelf", "-h", path], capture_output=True, text=True, check=True).stdout
        assert machine in header


@pytest.mark.parametrize(("engine", "megabytes"), [("executorch", 16), ("onnxruntime", 28)])
def test_what_goes_to_a_board_is_small(engine: Engine, megabytes: int) -> None:
    built = bundle(engine, AARCH64, progress=Silent())

    assert built.files[built.executable].stat().st_size <= 1_000_000
    assert sum(path.stat().st_size for path in built.files.values()) <= megabytes * 1_000_000
    sections = subprocess.run(
        ["readelf", "-SW", built.files[built.executable]], capture_output=True, text=True, check=True
    ).stdout
    assert ".symtab" not in sections
    assert ".debug" not in sections


@pytest.mark.parametrize("triple", [AARCH64, X86_64])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_library_that_the_runner_names_is_in_its_bundle_or_part_of_every_system(
    engine: Engine, triple: str
) -> None:
    system = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1"}
    system |= {"libstdc++.so.6", "ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2"}
    built = bundle(engine, triple, progress=Silent())

    for path in _programs(built):
        dynamic = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True).stdout
        assert set(re.findall(r"NEEDED.*\[(.*)\]", dynamic)) <= system | set(built.files)


def test_the_bundle_is_where_other_tools_look_for_it() -> None:
    built = bundle("executorch", AARCH64, progress=Silent())

    path = built.files["edgeq-runner-executorch"]
    assert path.parent.name == AARCH64
    assert os.access(path, os.X_OK)
    assert built.sha256 == sha256_file(path)


def test_an_unchanged_runner_costs_nothing() -> None:
    bundle("executorch", AARCH64, progress=Silent())
    said = Said()

    times = []
    for _ in range(5):
        start = time.perf_counter()
        bundle("executorch", AARCH64, progress=said)
        times.append(time.perf_counter() - start)

    assert min(times) < 0.05
    assert said.steps == []


@pytest.mark.usefixtures("fresh_cache")
def test_a_changed_source_is_built_again_and_a_changed_test_is_not(sources: Path) -> None:
    first = bundle("onnxruntime", X86_64, progress=Silent())
    (sources / "event_test.cc").write_text("// changed\n")
    (sources / "README.md").write_text("changed\n")
    assert bundle("onnxruntime", X86_64, progress=Silent()) == first

    main = (sources / "main.cc").read_text()
    (sources / "main.cc").write_text(main.replace("kProtocol = 1", "kProtocol = 7"))
    said = Said()
    second = bundle("onnxruntime", X86_64, progress=said)

    assert second.sha256 != first.sha256
    assert any("building" in step for step in said.steps)
    hello = subprocess.run([second.files[second.executable], "hello"], capture_output=True, check=True).stdout
    assert b'"protocol":7' in hello
    assert build.build_hash("onnxruntime", X86_64).encode() in hello
    (sources / "main.cc").write_text(main)
    assert bundle("onnxruntime", X86_64, progress=Silent()) == first


def test_a_source_that_does_not_compile_is_told_and_leaves_nothing(fresh_cache: Path, sources: Path) -> None:
    (sources / "tensor.cc").write_text("this is not C++\n")

    with pytest.raises(BuildFailedError) as caught:
        bundle("onnxruntime", X86_64, progress=Silent())

    assert "this is not C++" in caught.value.detail or "tensor.cc" in caught.value.detail
    assert [path for path in (fresh_cache / "runners").rglob("*") if path.is_file()] == []


def test_what_a_killed_build_left_is_removed(fresh_cache: Path) -> None:
    key = build.build_hash("onnxruntime", X86_64)[:16]
    leftover = fresh_cache / "runners" / key / ".build-killed"
    leftover.mkdir(parents=True)

    bundle("onnxruntime", X86_64, progress=Silent())

    assert not leftover.exists()


@pytest.mark.usefixtures("fresh_cache")
def test_two_at_once_build_once() -> None:
    said = Said()
    built: list[RunnerBundle] = []
    threads = [
        threading.Thread(target=lambda: built.append(bundle("onnxruntime", X86_64, progress=said))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert built[0] == built[1]
    assert sum("building" in step for step in said.steps) == 1


@pytest.mark.parametrize(
    ("missing", "triple", "package"),
    [
        ("cmake", X86_64, "cmake"),
        ("make", X86_64, "make"),
        ("x86_64-linux-gnu-g++", X86_64, "g++"),
        ("aarch64-linux-gnu-g++", AARCH64, "g++-aarch64-linux-gnu"),
    ],
)
@pytest.mark.usefixtures("fresh_cache")
def test_a_missing_tool_is_named_with_its_package(
    missing: str, triple: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("cmake", "make", "x86_64-linux-gnu-g++", "aarch64-linux-gnu-g++"):
        if tool != missing:
            (tools / tool).symlink_to(shutil.which(tool) or tool)
    monkeypatch.setenv("PATH", str(tools))

    with pytest.raises(MissingToolError) as caught:
        bundle("onnxruntime", triple, progress=Silent())

    assert missing in caught.value.message
    assert caught.value.hint.endswith(f" {package}")


def test_an_installation_without_sources_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "sources_dir", lambda: tmp_path)

    with pytest.raises(MissingSourcesError):
        bundle("onnxruntime", X86_64, progress=Silent())


@pytest.fixture
def came_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunnerBundle:
    """A runner that lies where an installed edgeq has those that it brought."""
    ready = bundle("onnxruntime", X86_64, progress=Silent())
    there = tmp_path / "came" / X86_64 / ready.executable
    there.parent.mkdir(parents=True)
    shutil.copy(ready.files[ready.executable], there)
    monkeypatch.setattr(build, "_PREBUILT", tmp_path / "came")
    return ready


def test_a_runner_that_came_with_edgeq_needs_no_compiler(
    came_along: RunnerBundle, fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert not (fresh_cache / "runners").exists()

    taken = bundle("onnxruntime", X86_64, progress=Silent())

    assert fresh_cache in taken.files[taken.executable].parents
    assert taken.sha256 == came_along.sha256
    assert taken.files.keys() == came_along.files.keys()


@pytest.mark.usefixtures("came_along")
def test_a_runner_of_other_sources_than_these_is_not_taken(
    fresh_cache: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sources / "event.h").write_text((sources / "event.h").read_text() + "// changed\n")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))

    with pytest.raises(MissingToolError, match="cmake"):
        bundle("onnxruntime", X86_64, progress=Silent())
    assert not list((fresh_cache / "runners").glob("*/*"))


@pytest.mark.parametrize(("engine", "triple"), [("executorch", AARCH64), ("onnxruntime", X86_64)])
def test_the_same_sources_give_the_same_bytes_in_another_folder(
    engine: Engine, triple: str, request: pytest.FixtureRequest
) -> None:
    here = bundle(engine, triple, progress=Silent())
    request.getfixturevalue("sources")
    cache = request.getfixturevalue("fresh_cache")

    there = bundle(engine, triple, progress=Silent())

    assert cache in there.files[there.executable].parents
    assert cache not in here.files[here.executable].parents
    assert there.sha256 == here.sha256


def test_a_users_compiler_flags_do_not_reach_the_build(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXXFLAGS", "--no-such-flag")
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setenv("CMAKE_GENERATOR", "Nonsense")

    assert fresh_cache in bundle("onnxruntime", X86_64, progress=Silent()).files["libonnxruntime.so.1"].parents


def test_the_parts_pass_their_own_tests_and_give_no_warning(tmp_path: Path) -> None:
    _run("cmake", "-S", build.sources_dir(), "-B", tmp_path, "-DEDGEQ_TESTS=ON")
    _run("cmake", "--build", tmp_path, "--parallel", "2")
    _run("ctest", "--test-dir", tmp_path, "--output-on-failure")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engines_give_no_warning(engine: Engine, tmp_path: Path) -> None:
    if engine == "executorch":
        wheel = fetch_wheel(f"executorch-{X86_64}", progress=Silent())
        build._extract(wheel, build._locked(engine, X86_64), tmp_path / "wheel")
        runtime = tmp_path / "wheel" / "executorch"
    else:
        runtime = build._unpacked("onnxruntime-headers", Silent()) / "usr" / "include" / "onnxruntime"
    out = tmp_path / "out"
    _run("cmake", "-S", build.sources_dir(), "-B", out, f"-DEDGEQ_ENGINE={engine}", f"-DEDGEQ_RUNTIME={runtime}")
    _run("cmake", "--build", out, "--parallel", "2")


def _run(*argv: str | Path) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
