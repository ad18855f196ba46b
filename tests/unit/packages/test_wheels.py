from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgeq.errors import DiskFullError, FetchError, UnknownNameError, WrongHashError
from edgeq.files import sha256_file
from edgeq.packages import fetch_wheel, wheels
from edgeq.packages.locks import LockedWheel, WheelLock
from edgeq.progress import Silent

_CONTENT = b"a wheel"


class Pip:
    """Stands for pip: gives ``content`` or fails with ``problem``."""

    def __init__(self) -> None:
        self.content = _CONTENT
        self.problem = ""
        self.calls: list[tuple[str, ...]] = []

    def run(self, argv: tuple[str, ...], **_options: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(argv)
        folder = _path_after(argv, "--dest")
        if self.problem:
            return subprocess.CompletedProcess(argv, 1, "", self.problem)
        (folder / "x-1-cp311.whl").write_bytes(self.content)
        return subprocess.CompletedProcess(argv, 0, "", "")


def _path_after(argv: tuple[str, ...], option: str) -> Path:
    return Path(argv[argv.index(option) + 1])


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    pip = Pip()
    source = tmp_path / "x.whl"
    source.write_bytes(_CONTENT)
    wheel = LockedWheel(
        name="x-aarch64",
        project="x",
        version="1",
        python="311",
        abi="cp311",
        platform="manylinux_2_28_aarch64",
        size=len(_CONTENT),
        sha256=sha256_file(source),
    )
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(wheels, "load_wheel_lock", lambda: WheelLock(purpose="a test", wheel=(wheel,)))
    monkeypatch.setattr(wheels.subprocess, "run", pip.run)
    return pip


def test_a_wheel_is_fetched_once_for_the_machine_of_its_name(pip: Pip) -> None:
    path = fetch_wheel("x-aarch64", progress=Silent())

    assert fetch_wheel("x-aarch64", progress=Silent()) == path
    assert path.read_bytes() == _CONTENT
    (argv,) = pip.calls
    for option, value in (
        ("--platform", "manylinux_2_28_aarch64"),
        ("--python-version", "311"),
        ("--abi", "cp311"),
        ("--implementation", "cp"),
    ):
        assert argv[argv.index(option) + 1] == value


def test_another_file_of_that_version_is_refused(pip: Pip, tmp_path: Path) -> None:
    pip.content = b"another wheel"

    with pytest.raises(WrongHashError):
        fetch_wheel("x-aarch64", progress=Silent())

    assert list((tmp_path / "cache" / "wheels").iterdir()) == []


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        ("ERROR: No matching distribution found for x==1", FetchError),
        ("OSError: [Errno 28] No space left on device", DiskFullError),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", WrongHashError),
    ],
)
def test_what_pip_says_becomes_the_error_that_fits(pip: Pip, problem: str, error: type[Exception]) -> None:
    pip.problem = problem

    with pytest.raises(error):
        fetch_wheel("x-aarch64", progress=Silent())


def test_an_unknown_wheel_is_refused(pip: Pip) -> None:
    with pytest.raises(UnknownNameError):
        fetch_wheel("x-riscv", progress=Silent())

    assert pip.calls == []
