from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from edgeq.device.ssh_config import SshConfig
from edgeq.errors import SshConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def _configure(home: Path, text: str, name: str = "config") -> None:
    (home / ".ssh" / name).write_text(text)


def test_a_host_that_nobody_wrote_of_has_the_usual_settings(home: Path) -> None:
    found = SshConfig().lookup("rpi")
    assert (found.host, found.port, found.user) == ("rpi", 22, getpass.getuser())
    assert home / ".ssh" / "id_ed25519" in found.identity_files
    assert not found.identities_named
    assert home / ".ssh" / "known_hosts" in found.known_hosts


def test_every_setting_of_an_alias_is_read(home: Path) -> None:
    _configure(
        home,
        "Host kitchen\n HostName 10.0.0.7\n User pi\n Port 2222\n IdentityFile ~/keys/a\n IdentityFile %d/keys/b\n"
        " IdentitiesOnly yes\n UserKnownHostsFile ~/hosts\n HostKeyAlias kitchen\n ConnectTimeout 3\n"
        " ProxyCommand nc %h %p\nHost far\n ProxyJump a,b\n IdentityAgent none\n",
    )
    found = SshConfig().lookup("kitchen")
    assert (found.host, found.port, found.user) == ("10.0.0.7", 2222, "pi")
    assert found.identity_files == (home / "keys/a", home / "keys/b")
    assert found.identities_only
    assert found.known_hosts[0] == home / "hosts"
    assert (found.known_as, found.timeout_s, found.proxy_command) == ("kitchen", 3.0, "nc 10.0.0.7 2222")
    far = SshConfig().lookup("far")
    assert (far.proxy_jump, far.agent) == ("a,b", None)


def test_what_the_address_says_wins(home: Path) -> None:
    _configure(home, "Host *\n User other\n Port 9\n")
    found = SshConfig().lookup("rpi", user="pi", port=22)
    assert (found.user, found.port) == ("pi", 22)


def test_a_match_block_sees_the_user_of_the_address(home: Path) -> None:
    _configure(home, "Match user pi\n Port 2222\n IdentityFile ~/keys/%r@%h\nHost rpi\n HostName 10.0.0.7\n Port 9\n")
    found = SshConfig().lookup("rpi", user="pi")
    assert (found.port, found.identity_files) == (2222, (home / "keys/pi@10.0.0.7",))
    assert SshConfig().lookup("rpi", user="ann").port == 9


def test_the_port_of_the_address_is_the_one_a_proxycommand_gets(home: Path) -> None:
    _configure(home, "Host *\n ProxyCommand nc %h %p\n")
    assert SshConfig().lookup("rpi", port=2222).proxy_command == "nc rpi 2222"


def test_tokens_and_variables_of_paths_are_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/media/keys")
    _configure(
        home,
        "Host kitchen\n HostName 10.0.0.7\n User pi\n Port 2222\n IdentityFile %d/%n-%h-%p-%r-%u\n"
        " IdentityFile ${KEYS}/100%%\n UserKnownHostsFile %d/hosts-%k\n IdentityAgent ~/agent-%i\n",
    )
    found = SshConfig().lookup("kitchen")
    assert found.identity_files == (
        home / f"kitchen-10.0.0.7-2222-pi-{getpass.getuser()}",
        Path("/media/keys/100%"),
    )
    assert found.known_hosts[0] == home / "hosts-kitchen"
    assert found.agent == home / f"agent-{os.getuid()}"


@pytest.mark.parametrize(
    ("line", "agent"),
    [
        ("", "/run/agent"),
        ("IdentityAgent SSH_AUTH_SOCK", "/run/agent"),
        ("IdentityAgent $OTHER", "/run/other"),
        ("IdentityAgent ${OTHER}", "/run/other"),
        ("IdentityAgent /run/mine", "/run/mine"),
        ("IdentityAgent none", None),
        ("IdentityAgent $UNSET", None),
    ],
)
def test_the_agent_is_the_one_that_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, line: str, agent: str | None
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("OTHER", "/run/other")
    _configure(home, f"Host *\n {line}\n")
    assert SshConfig().lookup("rpi").agent == (Path(agent) if agent else None)


def test_a_dead_connection_is_given_up_after_half_a_minute_unless_the_user_says_otherwise(home: Path) -> None:
    found = SshConfig().lookup("rpi")
    assert found.alive_s * found.alive_count == 30
    _configure(home, "Host *\n ServerAliveInterval 1m30s\n ServerAliveCountMax 2\n ConnectTimeout 1h\n")
    found = SshConfig().lookup("rpi")
    assert (found.alive_s, found.alive_count, found.timeout_s) == (90, 2, 3600)
    _configure(home, "Host *\n ServerAliveInterval 0\n ConnectTimeout none\n")
    found = SshConfig().lookup("rpi")
    assert (found.alive_s, found.timeout_s) == (0, 15)


def test_batch_mode_asks_nobody(home: Path) -> None:
    assert SshConfig().lookup("rpi").prompts == 3
    _configure(home, "Host *\n BatchMode yes\n")
    assert SshConfig().lookup("rpi").prompts == 0


def test_includes_are_followed_and_end_with_their_file(home: Path) -> None:
    _configure(home, "Host one\n Port 1\n", "a.conf")
    _configure(home, "Host *\n User from-b\n", "b.conf")
    _configure(home, "Host two\nInclude *.conf\n Port 2\n")
    config = SshConfig()
    assert config.lookup("two").port == 2
    assert config.lookup("one").port == 1
    assert config.aliases() == ("one", "two")


def test_files_that_include_each_other_are_an_error(home: Path) -> None:
    _configure(home, "Include config\n")
    with pytest.raises(SshConfigError, match="inside each other"):
        SshConfig()


@pytest.mark.parametrize(
    "text",
    [
        "Host 'x\n",
        "Match host\n",
        "Host x\n Port many\n",
        "Host x\n ConnectTimeout soon\n",
    ],
)
def test_a_file_that_cannot_be_understood_is_an_error(home: Path, text: str) -> None:
    _configure(home, text)
    with pytest.raises(SshConfigError):
        SshConfig().lookup("x")
