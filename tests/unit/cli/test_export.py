from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.shell_completion import ShellComplete

from edgeq import cli
from edgeq.testing import tiny_build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def build(tmp_path: Path) -> Path:
    tiny_build(tmp_path / "build")
    return tmp_path / "build"


def test_the_document_is_the_record_and_the_folder(edgeq: Callable[..., Any], build: Path, tmp_path: Path) -> None:
    done = edgeq("export", build, "--platform", "android", "--out", tmp_path / "app", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["platform"] == "android"
    assert document["folder"] == str(tmp_path / "app")
    record = json.loads((tmp_path / "app" / "export.json").read_text())
    assert {**record, "folder": document["folder"]} == document


def test_a_person_is_told_what_to_depend_on_what_is_missing_and_where_to_begin(
    edgeq: Callable[..., Any], build: Path, tmp_path: Path
) -> None:
    done = edgeq("export", build, "--platform", "android", "--out", tmp_path / "app")
    assert done.returncode == 0, done.stderr
    assert "org.pytorch:executorch-android 1.5.1" in done.stdout
    assert "left out: images as input" in done.stdout
    assert f"begin with {tmp_path / 'app' / 'README.md'}" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--platform", "android", "--artifact", "tiny.int8-statik.pte"], "did you mean"),
        (["--platform", "android", "--package", "Bad"], "com.example.model"),
        (["--platform", "ios", "--package", "my-module"], "TinyModel"),
        (["--platform", "symbian"], "symbian"),
        (["--platform", "android", "--delegate", "coreml"], "android has: vulkan, vulkan-fp16"),
        (["--platform", "android", "--delegate", "opengl"], "vulkan"),
        (["--platform", "android", "--ort"], "edgeq build PROJECT --format onnx"),
        (["--platform", "android", "--delegate", "vulkan"], "edgeq build PROJECT --rebuild"),
        ([], "--platform"),
    ],
)
def test_a_wrong_option_is_exit_2_with_the_next_step(
    edgeq: Callable[..., Any], build: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    done = edgeq("export", build, *options, "--out", tmp_path / "app")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "app").exists()


def test_what_is_no_build_says_how_to_make_one(edgeq: Callable[..., Any], tmp_path: Path) -> None:
    done = edgeq("export", tmp_path, "--platform", "android")
    assert done.returncode == 2
    assert "edgeq build PROJECT" in done.stderr


def test_exporting_needs_neither_torch_nor_a_runtime(build: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from edgeq.cli import main; sys.argv = ['edgeq', 'export', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit as left: assert not left.code\n"
        "assert not {'torch', 'executorch', 'onnxruntime', 'onnx'} & set(sys.modules)"
    )
    arguments = [str(build), "--platform", "android", "--out", str(tmp_path / "app"), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_shell_completes_the_artifacts_of_the_build(build: Path) -> None:
    shell = ShellComplete(cli.group, {}, "edgeq", "_EDGEQ_COMPLETE")
    found = shell.get_completions(["export", str(build), "--platform", "android", "--artifact"], "tiny.int8")
    assert [one.value for one in found] == ["tiny.int8-static.pte"]
