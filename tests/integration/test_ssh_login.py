"""Logins that a test cannot have of this machine's own sshd: a server of paramiko's, real on the wire."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import paramiko
import pytest

from edgeq.device.inventory import open_device
from edgeq.device.ssh import SshTransport
from edgeq.device.ssh_connection import Address
from edgeq.errors import KeyRefusedError
from edgeq.progress import Silent
from edgeq.testing import sample_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "correct horse ü"  # noqa: S105  # opens nothing but the door below


@dataclass(kw_only=True)
class Door(paramiko.ServerInterface):
    """What a server asks for: each of ``wants`` in turn, any key counts as ``publickey``."""

    wants: list[str]
    seen: list[str] = field(default_factory=list)

    def get_allowed_auths(self, username: str) -> str:
        del username
        return ",".join(self.wants[:1])

    def check_auth_none(self, username: str) -> int:
        del username
        return self._step("none", right=True)

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        del username, key
        return self._step("publickey", right=True)

    def check_auth_password(self, username: str, password: str) -> int:
        del username
        return self._step("password", right=password == SECRET)

    def check_auth_interactive(self, username: str, submethods: str) -> int | paramiko.InteractiveQuery:
        del username, submethods
        query = paramiko.InteractiveQuery("", "")
        query.add_prompt("Password: ", echo=False)
        return query

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return self._step("keyboard-interactive", right=list(responses) == [SECRET])

    def _step(self, kind: str, *, right: bool) -> int:
        self.seen.append(kind)
        if kind != self.wants[0] or not right:
            return paramiko.AUTH_FAILED
        if len(self.wants) == 1:
            return paramiko.AUTH_SUCCESSFUL
        self.wants.pop(0)
        return paramiko.AUTH_PARTIALLY_SUCCESSFUL


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., tuple[Address, Door]]]:
    """Start a server that wants those ways; its host key is known."""
    cleanup = contextlib.ExitStack()

    def start(*wants: str) -> tuple[Address, Door]:
        door = Door(wants=list(wants))
        host_key = paramiko.RSAKey.generate(2048)
        listener = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        known = f"[127.0.0.1]:{port} {host_key.get_name()} {host_key.get_base64()}\n"
        (home / ".ssh" / "known_hosts").write_text(known)

        def answer() -> None:
            sock, _ = listener.accept()
            wire = paramiko.Transport(sock)
            cleanup.callback(wire.close)
            wire.add_server_key(host_key)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                wire.start_server(server=door)

        threading.Thread(target=answer, daemon=True).start()
        return Address(name="shelf", host="127.0.0.1", port=port, user="pi"), door

    with cleanup:
        yield start


class Person:
    """Answers in turn, and keeps what was asked; says None when there is no more."""

    def __init__(self, *answers: str) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    def __call__(self, question: str) -> str | None:
        self.asked.append(question)
        return self._answers.pop(0) if self._answers else None


def _make_key(path: Path, passphrase: str) -> None:
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
    subprocess.run(keygen, check=True)


@pytest.mark.parametrize("kind", ["password", "keyboard-interactive"])
def test_a_password_is_asked_for_where_nothing_else_opens(
    serve: Callable[..., tuple[Address, Door]], kind: str
) -> None:
    address, door = serve(kind)
    person = Person("wrong", SECRET)
    SshTransport.connect(address, person).close()
    assert person.asked == ["pi@127.0.0.1's password: "] * 2
    assert door.seen.count(kind) == 2


def test_who_sits_before_a_command_is_the_one_who_is_asked(serve: Callable[..., tuple[Address, Door]]) -> None:
    address, _ = serve("password")

    class Watched(Silent):
        def ask(self, question: str) -> str:
            assert question == "pi@127.0.0.1's password: "
            return SECRET

    with open_device(f"ssh://pi@127.0.0.1:{address.port}", sample_target(), progress=Watched()) as device:
        assert device.name == f"ssh://pi@127.0.0.1:{address.port}"


def test_a_password_that_is_wrong_is_asked_for_as_often_as_ssh_does(
    serve: Callable[..., tuple[Address, Door]], home: Path
) -> None:
    (home / ".ssh" / "config").write_text("Host *\n NumberOfPasswordPrompts 2\n")
    address, _ = serve("password")
    person = Person("wrong", "wrong", "wrong")
    with pytest.raises(KeyRefusedError) as caught:
        SshTransport.connect(address, person)
    assert len(person.asked) == 2
    assert "refused the password 2 times" in caught.value.detail
    assert "wrong" not in str(caught.value) + caught.value.detail + caught.value.hint


@pytest.mark.parametrize("config", ["", "Host *\n BatchMode yes\n"])
def test_where_nobody_is_to_be_asked_the_error_says_what_would_open(
    serve: Callable[..., tuple[Address, Door]], home: Path, config: str
) -> None:
    (home / ".ssh" / "config").write_text(config)
    address, _ = serve("password")
    with pytest.raises(KeyRefusedError) as caught:
        SshTransport.connect(address)
    assert "would take a password" in caught.value.detail
    assert "not with --json" in caught.value.detail


def test_password_logins_that_the_user_switched_off_are_not_offered(
    serve: Callable[..., tuple[Address, Door]], home: Path
) -> None:
    (home / ".ssh" / "config").write_text("Host *\n PasswordAuthentication no\n KbdInteractiveAuthentication no\n")
    address, _ = serve("password")
    person = Person(SECRET)
    with pytest.raises(KeyRefusedError):
        SshTransport.connect(address, person)
    assert person.asked == []


def test_a_board_that_lets_everybody_in_needs_neither_key_nor_password(
    serve: Callable[..., tuple[Address, Door]],
) -> None:
    address, door = serve("none")
    SshTransport.connect(address).close()
    assert door.seen == ["none"]


def test_a_key_and_then_a_password_open_where_both_are_wanted(
    serve: Callable[..., tuple[Address, Door]], home: Path
) -> None:
    _make_key(home / ".ssh" / "id_ed25519", "")
    address, door = serve("publickey", "password")
    SshTransport.connect(address, Person(SECRET)).close()
    assert door.seen[-2:] == ["publickey", "password"]


def test_a_passphrase_opens_its_key_after_a_wrong_one(serve: Callable[..., tuple[Address, Door]], home: Path) -> None:
    key = home / ".ssh" / "id_ed25519"
    _make_key(key, SECRET)
    address, door = serve("publickey")
    person = Person("wrong", SECRET)
    SshTransport.connect(address, person).close()
    assert person.asked == [f"Enter passphrase for key '{key}': "] * 2
    assert door.seen[-1] == "publickey"


def test_nobody_is_asked_for_a_passphrase_while_another_key_opens(
    serve: Callable[..., tuple[Address, Door]], home: Path
) -> None:
    _make_key(home / ".ssh" / "id_ecdsa", SECRET)
    _make_key(home / ".ssh" / "id_ed25519", "")
    address, _ = serve("publickey")
    person = Person()
    SshTransport.connect(address, person).close()
    assert person.asked == []
