"""Who the user is, in the ways of ``ssh``: nothing, the agent's keys, key files, passphrases, a password."""

from __future__ import annotations

import base64
import binascii
import contextlib
import shlex
import socket
from functools import partial
from typing import TYPE_CHECKING

import paramiko

from edgeq.device.known_hosts import DEFAULT_PORT
from edgeq.errors import KeyRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeq.device.ssh_config import HostSettings

_ON_A_TERMINAL = "edgeq asks for it on a terminal only, of a single device, and not with --json"


def log_in(  # noqa: PLR0913  # who, where, with what
    wire: paramiko.Transport,
    settings: HostSettings,
    *,
    name: str,
    alias: str,
    key_path: Path | None,
    ask: Callable[[str], str | None],
) -> None:
    """Offer one thing after the other until one opens; KeyRefusedError if none does.

    ``alias`` is how the user's own ``ssh`` would call the host. With
    ``key_path`` that is the only key offered. ``ask`` puts a question to a
    person, and says None if nobody is there.
    """
    login = _Login(wire, settings, key_path, ask)
    if login.succeeds():
        return
    port = ["-p", str(settings.port)] if settings.port != DEFAULT_PORT else []
    raise KeyRefusedError(
        name,
        settings.user,
        tried=login.tried,
        notes=login.notes,
        copy_id=shlex.join(["ssh-copy-id", *port, f"{settings.user}@{alias}"]),
    )


class _Login:
    """The ways in, and what became of each: ``tried`` are the keys refused, ``notes`` all else worth saying."""

    def __init__(
        self,
        wire: paramiko.Transport,
        settings: HostSettings,
        key_path: Path | None,
        ask: Callable[[str], str | None],
    ) -> None:
        self.tried: list[str] = []
        self.notes: list[str] = []
        self._wire = wire
        self._settings = settings
        self._key_path = key_path
        self._ask = ask
        self._allowed: tuple[str, ...] = ()

    def succeeds(self) -> bool:
        try:
            # A board without a password lets everybody in here; any other says what it takes.
            if self._accepted(partial(self._wire.auth_none, self._settings.user)):
                return True
            if "publickey" not in self._allowed:
                self.notes.append(f"it takes no keys, only: {', '.join(self._allowed)}")
            elif self._by_key():
                return True
            return self._by_password()
        except (paramiko.SSHException, EOFError, OSError) as error:
            self.notes.append(f"it hung up after {len(self.tried)} keys ({error}); IdentitiesOnly yes offers fewer")
            return False

    def _accepted(self, offer: Callable[[], list[str]], label: str = "") -> bool:
        """Whether that opened; if not, what the device takes next is known."""
        try:
            more = offer()
        except paramiko.BadAuthenticationType as error:
            self._allowed = tuple(error.allowed_types)
            return False
        except paramiko.AuthenticationException:
            if not self._wire.is_active():
                raise
            return False
        if more:
            self._allowed = tuple(more)
            self.notes.append(f"it takes {label}, and wants more: {', '.join(more)}")
        return not more

    def _by_key(self) -> bool:
        user = self._settings.user
        with contextlib.closing(_Identities(self._settings, self._key_path, self.notes, self._ask)) as identities:
            for label, key in identities:
                if self._accepted(partial(self._wire.auth_publickey, user, key), label):
                    return True
                self.tried.append(label)
                if "publickey" not in self._allowed:
                    break  # it took that one, and wants something else now
        return False

    def _by_password(self) -> bool:
        settings = self._settings
        if not settings.passwords or not {"password", "keyboard-interactive"} & set(self._allowed):
            return False
        refused = 0
        for _ in range(settings.prompts):
            answer = self._ask(f"{settings.user}@{settings.host}'s password: ")
            if answer is None:
                break
            if self._accepted(partial(self._wire.auth_password, settings.user, answer), "the password"):
                return True
            refused += 1
        self.notes.append(
            f"it refused the password {refused} times" if refused else f"it would take a password: {_ON_A_TERMINAL}"
        )
        return False


class _Identities:
    """The keys to offer: the agent's that the user names, the agent's others, files, files with a passphrase."""

    def __init__(
        self,
        settings: HostSettings,
        key_path: Path | None,
        notes: list[str],
        ask: Callable[[str], str | None],
    ) -> None:
        self._notes = notes
        self._settings = settings
        self._ask = ask
        self._named = key_path is not None or settings.identities_named
        self._files = (key_path,) if key_path else settings.identity_files
        self._agent = self._connect(settings.agent) if settings.agent and not key_path else None

    def close(self) -> None:
        """Let go of the agent."""
        if self._agent:
            self._agent._close()  # noqa: SLF001  # as in _connect

    def __iter__(self) -> Iterator[tuple[str, paramiko.PKey]]:
        named = {blob for path in self._files for blob in _public_blobs(path)}
        agent_keys = list(self._agent.get_keys()) if self._agent else []
        if self._settings.identities_only:
            agent_keys = [key for key in agent_keys if key.asbytes() in named]
        for key in sorted(agent_keys, key=lambda key: key.asbytes() not in named):
            yield f"{key.comment or key.get_name()} of the agent", key
        offered = {key.asbytes() for key in agent_keys}
        locked = []
        for path in self._files:
            try:
                key = self._load(path)
            except (TypeError, paramiko.PasswordRequiredException):  # cryptography's and paramiko's word for the same
                if not set(_public_blobs(path)) & offered:
                    locked.append(path)
            else:
                if key is not None and key.asbytes() not in offered:
                    yield str(path), key
        for path in locked:  # last, so that nobody is asked in vain
            key = self._unlock(path)
            if key is not None:
                yield str(path), key

    def _connect(self, path: Path) -> paramiko.agent.AgentSSH | None:
        agent = paramiko.agent.AgentSSH()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(path))
            agent._connect(sock)  # noqa: SLF001  # paramiko's own Agent knows no path but $SSH_AUTH_SOCK
        except (OSError, paramiko.SSHException) as error:
            sock.close()
            self._notes.append(f"the agent at {path} does not answer: {error}")
            return None
        return agent

    def _load(self, path: Path) -> paramiko.PKey | None:
        """The key in a file; None, and a note, if there is none to use."""
        if not path.exists():
            if self._named:
                self._notes.append(f"{path} does not exist")
            return None
        if path.suffix == ".pub":
            return None  # names a key of the agent
        try:
            return paramiko.PKey.from_path(path)
        except paramiko.PasswordRequiredException:
            raise
        except (ValueError, OSError, paramiko.SSHException, paramiko.UnknownKeyType) as error:
            self._notes.append(f"{path} cannot be used: {error}")
        return None

    def _unlock(self, path: Path) -> paramiko.PKey | None:
        """The key in a file with a passphrase; an empty answer passes it over, as in ssh."""
        for _ in range(self._settings.prompts):
            answer = self._ask(f"Enter passphrase for key '{path}': ")
            if not answer:
                break
            with contextlib.suppress(ValueError, paramiko.SSHException):  # a wrong one
                return paramiko.PKey.from_path(path, answer.encode())
        self._notes.append(f"{path} is protected by a passphrase: run ssh-add {path} first; {_ON_A_TERMINAL}")
        return None


def _public_blobs(path: Path) -> Iterator[bytes]:
    """The public half that lies beside a private key."""
    public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    with contextlib.suppress(OSError, IndexError, binascii.Error, UnicodeDecodeError):
        yield base64.b64decode(public.read_text(encoding="utf-8").split()[1])
