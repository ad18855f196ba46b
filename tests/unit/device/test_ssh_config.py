from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import pytest

from edgeq.device.ssh_config import SshConfig
from edgeq.errors import SshConfigError

if TYPE_CHECKING:
    from pathlib import Path


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
    assert (far.proxy_jump, far.use_agent) == ("a,b", False)


def test_what_the_address_says_wins(home: Path) -> None:
    _configure(home, "Host *\n User other\n Port 9\n")
    found = SshConfig().lookup("rpi", user="pi", port=22)
    assert (found.user, found.port) == ("pi", 22)


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


@pytest.mark.parametrize("text", ["Host 'x\n", "Match host\n", "Host x\n Port many\n"])
def test_a_file_that_cannot_be_understood_is_an_error(home: Path, text: str) -> None:
    _configure(home, text)
    with pytest.raises(SshConfigError):
        SshConfig().lookup("x")
