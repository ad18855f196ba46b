"""The command line in this process: a new interpreter for each command would take half a second of each test."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from edgeq import cli
from edgeq.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command left with, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def edgeq(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Call the command line with arguments, and with environment variables by keyword."""

    def call(*arguments: object, **variables: str) -> Done:
        before = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        with monkeypatch.context() as patched:
            patched.setattr("sys.argv", ["edgeq", *map(str, arguments)])
            for name, value in variables.items():
                patched.setenv(name, value)
            try:
                status = terminal.run(cli.group)
            finally:
                signal.signal(signal.SIGTERM, before)
        out, err = capfd.readouterr()
        return Done(returncode=status, stdout=out, stderr=err)

    return call
