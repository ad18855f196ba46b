from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from edgeq import runner
from edgeq.installed import version_of
from edgeq.stages.doctor import diagnose, host

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.stages.doctor.finding import Finding


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the PATH, beside an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def _program(folder: Path, name: str, says: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


def _find(device: str | None, code: str) -> list[Finding]:
    return [one for one in host.examine(device)[1] if one.code == code]


def test_this_machine_fits() -> None:
    facts, findings = host.examine(None)
    assert facts.packages["msgspec"]
    assert facts.python.startswith("3.")
    assert {one.severity for one in findings if one.code in {"host.python", "host.package"}} == {"ok"}


def test_a_board_of_32_bits_needs_a_compiler_of_its_own(bare: Path) -> None:
    del bare
    found = host.examine("board:rpi2", boards="arm-linux-gnueabihf")[1]
    boards = next(one for one in found if one.code == "host.runner")
    assert boards.severity == "problem"
    assert boards.remedy.endswith("cmake make g++-arm-linux-gnueabihf")


def test_what_a_board_needs_here_is_a_problem_and_what_it_does_not_a_warning(bare: Path) -> None:
    del bare
    (emulation,) = _find("ssh://pi@kitchen", "host.emulation")
    assert emulation.severity == "warning"
    assert "sudo apt-get install qemu-system-arm zstd util-linux" in emulation.remedy
    for device in ("board", "board:rpi5"):
        (emulation,) = _find(device, "host.emulation")
        assert emulation.severity == "problem"
    boards, *_ = _find("ssh://pi@kitchen", "host.runner")
    assert (boards.severity, boards.remedy) == ("problem", "sudo apt-get install cmake make g++-aarch64-linux-gnu")
    boards, *_ = _find("local", "host.runner")
    assert boards.severity == "warning"
    assert diagnose(None, target=None, way=None).exit_code == 3


def test_no_compiler_is_needed_for_a_runner_that_is_built(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del bare
    monkeypatch.setattr(runner, "is_built", lambda _engine, _triple: True)
    assert {one.severity for one in _find(None, "host.runner")} == {"ok"}


def test_versions_are_those_that_programs_tell(bare: Path) -> None:
    _program(bare, "cmake", "cmake version 3.25.1")
    _program(bare, "aarch64-linux-gnu-g++", "aarch64-linux-gnu-g++ (Debian 12.2.0-14) 12.2.0")
    _program(bare, "ssh", "OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.14 4 Jun 2024")
    _program(bare, "make", "hello")
    programs = host.examine(None)[0].programs
    assert (programs["cmake"], programs["aarch64-linux-gnu-g++"]) == ("3.25.1", "12.2.0")
    assert (programs["ssh"], programs["make"], programs["zstd"]) == ("9.2p1", "?", "")


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("2.13.0+cpu", "==2.13.0", True),
        ("2.12.0", "==2.13.0", False),
        ("0.18.1", ">=0.18,<0.19", True),
        ("0.19.0", ">=0.18,<0.19", False),
        ("0.17.9", ">=0.18,<0.19", False),
        ("2", ">=2", True),
        ("2.0.0", "==2", True),
        ("9.1", "", True),
        ("of my own", ">=1", False),
    ],
)
def test_versions_are_held_against_what_edgeq_names(version: str, wanted: str, fits: bool) -> None:
    assert host._fits(version, Requirement(f"package{wanted}")) == fits


def test_a_package_of_another_version_is_a_problem_with_the_line_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "version_of", lambda name: "" if name == "rich" else "0.0.1")
    found = {one.text.split()[0]: one for one in _find(None, "host.package")}
    assert found["torch"].severity == "problem"
    assert found["torch"].text == "torch is 0.0.1, and edgeq needs ==2.13.0"
    assert found["torch"].remedy.startswith('pip install "torch==2.13.0"')
    assert "not installed" in found["rich"].text
    assert found["rich"].severity == "problem"


def test_an_extra_that_is_not_installed_is_a_warning_with_pips_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "version_of", lambda name: "" if name == "onnxscript" else version_of(name))
    (found,) = [one for one in _find(None, "host.package") if one.severity != "ok"]
    assert (found.severity, found.text) == ("warning", "onnxscript is not installed: .onnx files cannot be made")
    assert "pip install 'edgeq[onnx]'" in found.remedy


def test_no_compiler_is_needed_for_a_runner_that_came_with_edgeq(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del bare
    monkeypatch.setattr(runner, "came_along", lambda _engine, _triple: True)
    found = _find(None, "host.runner")
    assert {one.severity for one in found} == {"ok"}
    assert all("came with edgeq" in one.text for one in found)


def test_sources_that_were_never_installed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    (found,) = _find(None, "host.package")
    assert (found.severity, found.remedy[:15]) == ("warning", "pip install -e ")


def test_a_cache_without_room_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "not" / "yet"))
    (found,) = _find(None, "host.cache")
    assert str(tmp_path / "not" / "yet") in found.text
    monkeypatch.setattr(host, "_LEAST_CACHE_BYTES", 1 << 60)
    (found,) = _find(None, "host.cache")
    assert found.severity == "problem"
    assert "EDGEQ_CACHE" in found.remedy


def test_a_cache_that_cannot_be_written_is_a_problem(tmp_path: Path, bound_by_permissions: tuple[str, ...]) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    code = "from edgeq.stages.doctor import host\n"
    code += "print(*(one.severity for one in host.examine(None)[1] if one.code == 'host.cache'))"
    command = [*bound_by_permissions, sys.executable, "-c", code]
    env = {**os.environ, "EDGEQ_CACHE": str(tmp_path / "locked" / "cache")}
    assert subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout.split() == ["problem"]


def test_a_program_in_the_place_of_the_cache_is_a_problem(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(bare, "cache", "no folder")
    monkeypatch.setenv("EDGEQ_CACHE", str(bare / "cache" / "edgeq"))
    assert [one.severity for one in _find(None, "host.cache")] == ["problem"]
