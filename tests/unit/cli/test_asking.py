from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ASKS = """
import fcntl, json, sys, termios
if sys.stdin.isatty():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from edgeq.cli.terminal import terminal
from edgeq.progress import Asker
with terminal(as_json="--json" in sys.argv, verbose=False) as shown, shown.progress() as progress:
    progress.step("connecting to shelf")
    answer = progress.ask("password: ") if isinstance(progress, Asker) else None
    progress.step("deploying")
with open(sys.argv[1], "w") as file:
    json.dump(answer, file)
"""


def _on_a_terminal(arguments: Sequence[str], *, types: str) -> str:
    """What a program shows on a terminal of its own, where somebody types that once a question stands there."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ASKS, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    typed = False
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # Linux' way to say that the other side is closed
            break
        if not chunk:
            break
        said += chunk
        if b"password: " in said and not typed:
            os.write(terminal, types.encode() + b"\n")
            typed = True
    os.close(terminal)
    assert process.wait(30) == 0, said.decode()
    return said.decode()


def test_a_secret_is_asked_for_on_a_terminal_and_not_shown(tmp_path: Path) -> None:
    said = _on_a_terminal([str(tmp_path / "answer")], types="ü secret")
    assert json.loads((tmp_path / "answer").read_text()) == "ü secret"
    assert "password: " in said
    assert "secret" not in said


def test_nothing_is_asked_with_json(tmp_path: Path) -> None:
    said = _on_a_terminal([str(tmp_path / "answer"), "--json"], types="")
    assert json.loads((tmp_path / "answer").read_text()) is None
    assert "password" not in said


def test_nothing_is_asked_where_there_is_no_terminal(tmp_path: Path) -> None:
    run = [sys.executable, "-c", _ASKS, str(tmp_path / "answer")]
    subprocess.run(run, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    assert json.loads((tmp_path / "answer").read_text()) is None
