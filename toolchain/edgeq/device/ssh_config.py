"""What the user's SSH configuration says of a host, read as ``ssh`` reads it."""

from __future__ import annotations

import getpass
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko

from edgeq.device.known_hosts import DEFAULT_PORT
from edgeq.errors import SshConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DEFAULT_IDENTITIES = ("id_rsa", "id_ecdsa", "id_ed25519")
_DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_DEFAULT_TIMEOUT_S = 15.0
_DEFAULT_ALIVE_S = 10.0
_DEFAULT_ALIVE_COUNT = 3
_DEFAULT_PROMPTS = 3
_DEEPEST_INCLUDE = 16
_TIME_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """How to reach a host and prove who both sides are.

    ``identity_files`` are named by the user when ``identities_named``,
    else the usual ones. ``agent`` is the socket of the agent to ask, None
    for no agent. ``known_as`` is the name its keys are kept under. A connection that
    nothing was heard on for ``alive_s`` is asked whether it is there, and
    given up after ``alive_count`` times that; 0 never asks. A person is
    asked up to ``prompts`` times for a password or passphrase, and for a
    password only if ``passwords``.
    """

    host: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    identities_named: bool
    identities_only: bool
    agent: Path | None
    known_hosts: tuple[Path, ...]
    known_as: str
    proxy_command: str
    proxy_jump: str
    timeout_s: float = _DEFAULT_TIMEOUT_S
    alive_s: float = _DEFAULT_ALIVE_S
    alive_count: int = _DEFAULT_ALIVE_COUNT
    prompts: int = 0
    passwords: bool = False


class SshConfig:
    """``~/.ssh/config`` before ``/etc/ssh/ssh_config``, with their ``Include`` lines followed."""

    def __init__(self) -> None:
        lines: list[str] = []
        for path in (Path.home() / ".ssh" / "config", Path("/etc/ssh/ssh_config")):
            if path.is_file():
                lines += ["Host *", *_lines(path, path.parent, 0)]
        self._aliases = {name for line in lines for name in _named_by(line)}
        self._text = "\n".join(lines)

    def aliases(self) -> tuple[str, ...]:
        """The hosts it names literally."""
        return tuple(sorted(self._aliases))

    def lookup(self, alias: str, *, user: str | None = None, port: int | None = None) -> HostSettings:
        """Everything for one host; ``user`` and ``port`` win over the files, as on ssh's command line."""
        # The first value counts, so these also decide what ``Match user`` matches and what %r and %p stand for.
        if user and not user.isprintable():
            raise SshConfigError("the user's name", f"{user!r} is none")
        given = ["Host *", *([f"User {user}"] if user else []), *([f"Port {port}"] if port else [])]
        try:
            config = paramiko.SSHConfig.from_text("\n".join([*given, self._text]))
            return _settings(config.lookup(alias), alias)
        except (paramiko.ConfigParseError, paramiko.CouldNotCanonicalize, ValueError, KeyError) as error:
            raise SshConfigError("~/.ssh/config", str(error)) from error


def _settings(found: paramiko.SSHConfigDict, alias: str) -> HostSettings:
    user = found.get("user") or getpass.getuser()
    port = int(found.get("port", DEFAULT_PORT))
    tokens = {"%": "%", "d": str(Path.home()), "h": found["hostname"], "n": alias, "p": str(port), "r": user}
    tokens |= {"k": found.get("hostkeyalias", alias), "u": getpass.getuser(), "i": str(os.getuid())}
    named = [_path(name, tokens) for name in found.get("identityfile", ()) if name.lower() != "none"]
    home = Path.home()
    user_files = shlex.split(found.get("userknownhostsfile", "")) or list(_DEFAULT_KNOWN_HOSTS)
    global_files = shlex.split(found.get("globalknownhostsfile", "")) or list(_GLOBAL_KNOWN_HOSTS)
    jump = found.get("proxyjump", "")
    prompts = int(found.get("numberofpasswordprompts", _DEFAULT_PROMPTS))
    return HostSettings(
        host=found["hostname"],
        port=port,
        user=user,
        identity_files=tuple(named) or tuple(home / ".ssh" / name for name in _DEFAULT_IDENTITIES),
        identities_named=bool(named),
        identities_only=_yes(found, "identitiesonly", default=False),
        agent=_agent(found.get("identityagent", ""), tokens),
        known_hosts=tuple(_path(name, tokens) for name in (*user_files, *global_files) if name.lower() != "none"),
        known_as=found.get("hostkeyalias", ""),
        proxy_command=found.get("proxycommand") or "",
        proxy_jump="" if jump.lower() == "none" else jump,
        timeout_s=_seconds(found.get("connecttimeout", "")) or _DEFAULT_TIMEOUT_S,
        alive_s=_seconds(found.get("serveraliveinterval", f"{_DEFAULT_ALIVE_S:.0f}")),
        alive_count=int(found.get("serveralivecountmax", _DEFAULT_ALIVE_COUNT)),
        prompts=0 if _yes(found, "batchmode", default=False) else prompts,
        passwords=_yes(found, "passwordauthentication", default=True)
        or _yes(found, "kbdinteractiveauthentication", default=True),
    )


def _yes(found: paramiko.SSHConfigDict, key: str, *, default: bool) -> bool:
    said = found.get(key)
    return default if said is None else said.lower() in ("yes", "true")


def _agent(named: str, tokens: Mapping[str, str]) -> Path | None:
    """The agent's socket: the one of the environment unless ``IdentityAgent`` names another, or none."""
    if named.lower() == "none":
        return None
    if named in ("", "SSH_AUTH_SOCK"):
        named = "$SSH_AUTH_SOCK"
    if re.fullmatch(r"\$\w+", named):
        named = os.environ.get(named[1:], "")
        return Path(named) if named else None
    return _path(named, tokens)


def _seconds(text: str) -> float:
    """A time of sshd_config(5), TIME FORMATS, as "90" or "1m30s"; nothing and ``none`` are 0."""
    if text.lower() in ("", "none"):
        return 0.0
    if not re.fullmatch(r"(\d+[smhdw]?)+", text, re.IGNORECASE):
        raise ValueError(f"{text!r} is no time")
    parts = re.findall(r"(\d+)([smhdw]?)", text, re.IGNORECASE)
    return float(sum(int(number) * _TIME_UNITS_S[unit.lower()] for number, unit in parts))


def _named_by(line: str) -> Iterator[str]:
    """The literal names of a ``Host`` line."""
    key, _, value = line.strip().replace("=", " ", 1).partition(" ")
    if key.lower() == "host":
        yield from (name.strip('"') for name in value.split() if not set(name) & set("*?!"))


def _path(name: str, tokens: Mapping[str, str]) -> Path:
    """A path with its ``%`` tokens, ``${VARIABLES}`` and ``~`` replaced (ssh_config(5), TOKENS)."""
    named = re.sub("%(.)", lambda found: tokens.get(found[1], found[0]), name)
    return Path(re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], ""), named)).expanduser()


def _lines(path: Path, base: Path, depth: int) -> Iterator[str]:
    """The file's lines with every Include replaced by what it names.

    A block that an included file opens ends with that file, so the block
    around the Include is opened again after it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SshConfigError(path, str(error)) from error
    block = "Host *"
    for line in text.splitlines():
        key, _, value = line.strip().replace("=", " ", 1).partition(" ")
        if key.lower() in ("host", "match"):
            block = line
        if key.lower() != "include":
            yield line
            continue
        if depth >= _DEEPEST_INCLUDE:
            raise SshConfigError(path, f"more than {_DEEPEST_INCLUDE} Include lines inside each other")
        for pattern in shlex.split(value):
            full = Path(pattern).expanduser()
            full = full if full.is_absolute() else base / full
            for included in sorted(Path(full.anchor).glob(str(full.relative_to(full.anchor)))):
                if included.is_file():
                    yield from _lines(included, base, depth + 1)
        yield block
