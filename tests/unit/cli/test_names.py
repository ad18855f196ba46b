"""What users and devices call things is shown as it is: it neither colours a terminal nor ends a command."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def _edgeq(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HOME": str(home), "EDGEQ_CACHE": str(home / "cache")}
    command = [sys.executable, "-m", "edgeq", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=60)
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    return done


@pytest.mark.parametrize("name", ['[/x] it\'s "q" $(x) 码', "\x1b[31mred"])
def test_a_device_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / ".config" / "edgeq").mkdir(parents=True)
    quoted = name.replace("\x1b", "\\u001b").replace('"', '\\"')
    (tmp_path / ".config" / "edgeq" / "devices.toml").write_text(f'["{quoted}"]\nhost = "127.0.0.1"\nport = 1\n')
    shown = name.replace("\x1b", "\ufffd")
    assert shown in _edgeq(tmp_path, "devices").stdout
    alone = _edgeq(tmp_path, "deploy", "--list", "--device", name)
    assert alone.returncode == 4
    assert "nothing listens" in alone.stderr
    several = _edgeq(tmp_path, "deploy", "--list", "--device", f"{name},local")
    assert several.returncode == 4
    assert shown in several.stdout


@pytest.mark.parametrize("name", ["[bold]x", "\x1b[31mred"])
def test_what_a_device_says_it_holds_is_shown_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / ".edgeq" / "current").mkdir(parents=True)
    (tmp_path / ".edgeq" / "deployments" / "abc").mkdir(parents=True)
    (tmp_path / ".edgeq" / "current" / f"{name}@rpi4").write_text("abc\n")
    done = _edgeq(tmp_path, "deploy", "--list", "--device", "local")
    assert done.returncode == 0
    assert f"{name}@rpi4".replace("\x1b", "\ufffd") in done.stdout
    missing = _edgeq(tmp_path, "rollback", "none", "--device", "local")
    assert missing.returncode == 2
    assert "@rpi4" in missing.stderr
