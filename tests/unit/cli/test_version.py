from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from edgeq import cli
from edgeq.cli import version
from edgeq.runner import PROTOCOL, build_hash
from edgeq.triple import RUNNERS

if TYPE_CHECKING:
    import pytest


def _told(*arguments: str) -> Any:
    done = CliRunner().invoke(cli.group, ["--version", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_version_of_everything_is_one_json_document() -> None:
    told = json.loads(_told("--json"))

    assert told["edgeq"]
    assert set(told["packages"]) == {"torch", "torchao", "executorch", "onnx", "onnxruntime"}
    assert told["runner"]["protocol"] == PROTOCOL
    builds = {one["runner"]: one["build"] for one in told["runner"]["builds"]}
    assert builds == {f"{t}/edgeq-runner-{e}": build_hash(e, t) for t, e in RUNNERS}


def test_what_is_not_installed_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "version_of", lambda package: "" if package == "onnx" else "7")

    lines = [line.split(maxsplit=1) for line in _told().splitlines()]

    assert ["onnx", "not installed"] in lines
    assert ["torch", "7"] in lines
    assert json.loads(_told("--json"))["packages"]["onnx"] is None


def test_a_runner_that_is_yet_to_be_built_is_told_from_one_that_came_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version.runner, "came_along", lambda engine, _triple: engine == "executorch")

    lines = [line for line in _told().splitlines() if "edgeq-runner" in line]

    told = {"executorch": "came with edgeq", "onnxruntime": "built when it is needed"}
    assert [line.rpartition(", ")[2] for line in lines] == [told[engine] for _, engine in RUNNERS]


def test_json_without_version_is_an_error() -> None:
    done = CliRunner().invoke(cli.group, ["--json"])

    assert done.exit_code == 2
    assert "--version" in done.output
