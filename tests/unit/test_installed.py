from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from edgeq import installed
from edgeq.errors import MissingExtraError
from edgeq.schema import read_toml

PYPROJECT = read_toml(Path(__file__).parents[2] / "pyproject.toml")["project"]


def _packages(lines: list[str]) -> set[str]:
    return {Requirement(line).name.lower() for line in lines}


@pytest.mark.parametrize("extra", installed.EXTRAS)
def test_an_extra_brings_what_its_table_says(extra: str) -> None:
    assert _packages(PYPROJECT["optional-dependencies"][extra]) == set(installed.EXTRAS[extra])


def test_the_core_needs_none_of_what_an_extra_brings() -> None:
    core = _packages(PYPROJECT["dependencies"])

    assert all(core.isdisjoint(modules) for modules in installed.EXTRAS.values())


def test_all_names_every_other_extra() -> None:
    (everything,) = map(Requirement, PYPROJECT["optional-dependencies"]["all"])

    assert everything.extras == set(PYPROJECT["optional-dependencies"]) - {"all", "dev"}


def test_an_extra_that_is_here_is_no_error() -> None:
    installed.require("report", needed_for="a test")

    assert installed.missing("report") == ()


def test_an_extra_that_is_not_here_is_an_error_with_the_line_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxscript", None)

    with pytest.raises(MissingExtraError) as caught:
        installed.require("onnx", needed_for="making .onnx files")

    assert caught.value.message == "onnx, onnxscript are not installed; making .onnx files needs them"
    assert caught.value.hint == "pip install 'edgeq[onnx]'"
    assert caught.value.exit_code == 3


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "TOOLS", ("edgeq", "no-such-package"))

    assert installed.version_of("no-such-package") == ""
    assert list(installed.tool_versions()) == ["edgeq"]
