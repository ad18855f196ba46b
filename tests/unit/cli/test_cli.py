from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from edgeq import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Edgeq = Callable[..., Any]


def _modules_after(*calls: list[str]) -> set[str]:
    """What the command line has imported after those calls, one after the other in one process."""
    script = (
        "import sys, contextlib, os\n"
        "from edgeq.cli import group\n"
        f"for arguments in {calls!r}:\n"
        "    with contextlib.redirect_stdout(open(os.devnull, 'w')), contextlib.suppress(SystemExit):\n"
        "        group.main(arguments, standalone_mode=False)\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stderr.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_shows_an_example_in_its_help(name: str) -> None:
    shown = CliRunner().invoke(cli.group, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Examples:" in shown.output
    assert f"edgeq {name}" in shown.output


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_but_a_script_printer_takes_json(name: str) -> None:
    command = importlib.import_module(f"edgeq.cli.{name}").command
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        if leaf.name in {"ssh", "logs"} or name == "completion":
            continue  # these hand a stream through as it is
        assert "--json" in {option for parameter in leaf.params for option in parameter.opts}, leaf.name


def test_help_imports_neither_torch_nor_any_other_heavy_library() -> None:
    heavy = {"torch", "numpy", "executorch", "onnx", "onnxruntime", "rich", "paramiko", "msgspec", "jinja2"}
    assert not heavy & _modules_after(["--help"])


def test_no_command_imports_torch_before_it_builds() -> None:
    imported = _modules_after(*([name, "--help"] for name in cli.COMMANDS if name != "completion"))
    assert {f"edgeq.cli.{name}" for name in cli.COMMANDS if name != "completion"} <= imported
    assert not {"torch", "executorch", "onnx", "onnxruntime"} & imported


def test_a_misspelt_command_is_refused_with_the_nearest(edgeq: Edgeq) -> None:
    done = edgeq("bulid")
    assert done.returncode == 2
    assert "did you mean 'build'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_under_json_is_one_document_on_stdout(edgeq: Edgeq, tmp_path: Path) -> None:
    done = edgeq("report", str(tmp_path), "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert "is not a build" in error["message"]
    assert error["exit_code"] == 2
    assert error["hint"]


def test_a_wrong_command_line_is_no_case_for_a_log(edgeq: Edgeq, tmp_path: Path) -> None:
    done = edgeq("deploy", str(tmp_path), "--list", "--device", "local")
    assert done.returncode == 2
    assert "name a BUILD, or say --list" in done.stderr
    assert ".log" not in done.stderr


def test_a_wrong_project_ends_with_one_message_and_its_exit_code(edgeq: Edgeq, tmp_path: Path) -> None:
    done = edgeq("build", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("edgeq: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("budget", ["nan", "inf", "-1", "101", "0,5"])
@pytest.mark.parametrize("name", ["build", "run"])
def test_a_budget_that_is_no_number_of_points_is_refused(edgeq: Edgeq, tmp_path: Path, name: str, budget: str) -> None:
    (tmp_path / "edgeq.toml").write_text(
        '[model]\nname = "a"\nfactory = "m.py:f"\ninputs = [{ shape = [1, 3] }]\n[data]\nevaluation = "m.py:f"\n'
        '[build]\ntarget = "host"\n'
    )
    done = edgeq(name, str(tmp_path), "--max-drop", budget, "--json")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    error = json.loads(done.stdout)["error"]
    assert budget in error["message"]
    assert "100" in error["message"] or "float" in error["message"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--interval", "5"), "--single-shot"),
        (("--single-shot", "--rate", "3"), "two paces"),
        (("--arrivals", "even"), "--rate"),
        (("--rate", "0"), "0.01"),
        (("--interval", "90000", "--single-shot"), "60000"),
        (("--cpus", "7-4"), "0,4-7"),
        (("--cpus", "0;reboot"), "0,4-7"),
        (("--cpus", ""), "0,4-7"),
        (("--cpus", "0-4000"), "0,4-7"),
    ],
)
def test_a_pace_or_cpus_that_make_no_sense_are_refused_before_anything_is_looked_at(
    edgeq: Edgeq, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    done = edgeq("bench", str(tmp_path), "--device", "local", *options, "--json")
    assert done.returncode == 2, done.stderr
    error = json.loads(done.stdout)["error"]
    assert said in error["message"] + error["hint"]


def test_the_completion_script_names_the_program(edgeq: Edgeq) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = edgeq("completion", shell)
        assert done.returncode == 0
        assert "_EDGEQ_COMPLETE" in done.stdout


def test_the_public_names_are_these_and_stay_functions() -> None:
    import edgeq

    functions = ["bench", "build", "connected", "deploy", "export", "read_build", "report", "run"]
    names = ["BenchOptions", "Pace", "Silent", *functions]
    assert edgeq.__all__ == names
    for _ in range(2):  # a module of the same name would take a function's place once it is imported
        assert all(callable(getattr(edgeq, name)) for name in names)


def test_the_shell_completes_devices_behind_a_comma_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    (tmp_path / ".config" / "edgeq").mkdir(parents=True)
    devices = tmp_path / ".config" / "edgeq" / "devices.toml"
    devices.write_text('[kitchen]\nhost = "10.0.0.7"\n')
    shell = ShellComplete(cli.group, {}, "edgeq", "_EDGEQ_COMPLETE")
    assert [one.value for one in shell.get_completions(["doctor"], "kit")] == ["kitchen"]
    for words in (["deploy", "--device"], ["keys", "trust", "ci", "--device"], ["run", "project", "--device"]):
        assert [one.value for one in shell.get_completions(words, "local,kit")] == ["local,kitchen"]
    devices.write_text("[kitchen")
    assert shell.get_completions(["doctor"], "kit") == []
