"""What users and devices call things is shown as it is: it neither colours a terminal nor ends a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    AtHome = Callable[..., Any]


@pytest.fixture
def at_home(edgeq: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """The command line of a user whose home is ``tmp_path``; nothing of it may steer a terminal."""

    def call(*arguments: str) -> Any:
        done = edgeq(*arguments, HOME=str(tmp_path), EDGEQ_CACHE=str(tmp_path / "cache"))
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        return done

    return call


@pytest.mark.parametrize("name", ['[/x] it\'s "q" $(x) 码', "\x1b[31mred"])
def test_a_device_may_have_any_name(at_home: AtHome, tmp_path: Path, name: str) -> None:
    (tmp_path / ".config" / "edgeq").mkdir(parents=True)
    quoted = name.replace("\x1b", "\\u001b").replace('"', '\\"')
    (tmp_path / ".config" / "edgeq" / "devices.toml").write_text(f'["{quoted}"]\nhost = "127.0.0.1"\nport = 1\n')
    shown = name.replace("\x1b", "\ufffd")
    assert shown in at_home("devices").stdout
    alone = at_home("deploy", "--list", "--device", name)
    assert alone.returncode == 4
    assert "nothing listens" in alone.stderr
    several = at_home("deploy", "--list", "--device", f"{name},local")
    assert several.returncode == 4
    assert shown in several.stdout


@pytest.mark.parametrize("name", ["[bold]x", "\x1b[31mred"])
def test_what_a_device_says_it_holds_is_shown_as_it_is(at_home: AtHome, tmp_path: Path, name: str) -> None:
    (tmp_path / ".edgeq" / "current").mkdir(parents=True)
    (tmp_path / ".edgeq" / "deployments" / "abc").mkdir(parents=True)
    (tmp_path / ".edgeq" / "current" / f"{name}@rpi4").write_text("abc\n")
    done = at_home("deploy", "--list", "--device", "local")
    assert done.returncode == 0
    assert f"{name}@rpi4".replace("\x1b", "\ufffd") in done.stdout
    missing = at_home("rollback", "none", "--device", "local")
    assert missing.returncode == 2
    assert "@rpi4" in missing.stderr
