"""What the user's SSH configuration says of a host, read as ``ssh`` reads it."""

from __future__ import annotations

import getpass
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko

from edgeq.device.known_hosts import DEFAULT_PORT
from edgeq.errors import SshConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULT_IDENTITIES = ("id_rsa", "id_ecdsa", "id_ed25519")
_DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_DEFAULT_TIMEOUT_S = 15.0
_DEEPEST_INCLUDE = 16


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """How to reach a host and prove who both sides are.

    ``identity_files`` are named by the user when ``identities_named``,
    else the usual ones. ``known_as`` is the name its keys are kept under.
    """

    host: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    identities_named: bool
    identities_only: bool
    use_agent: bool
    known_hosts: tuple[Path, ...]
    known_as: str
    proxy_command: str
    proxy_jump: str
    timeout_s: float


class SshConfig:
    """``~/.ssh/config`` before ``/etc/ssh/ssh_config``, with their ``Include`` lines followed."""

    def __init__(self) -> None:
        lines: list[str] = []
        for path in (Path.home() / ".ssh" / "config", Path("/etc/ssh/ssh_config")):
            if path.is_file():
                lines += ["Host *", *_lines(path, path.parent, 0)]
        self._aliases = {name for line in lines for name in _named_by(line)}
        try:
            self._config = paramiko.SSHConfig.from_text("\n".join(lines))
        except (paramiko.ConfigParseError, ValueError) as error:
            raise SshConfigError("~/.ssh/config", str(error)) from error

    def aliases(self) -> tuple[str, ...]:
        """The hosts it names literally."""
        return tuple(sorted(self._aliases))

    def lookup(self, alias: str, *, user: str | None = None, port: int | None = None) -> HostSettings:
        """Everything for one host; ``user`` and ``port`` win over the files, as on ssh's command line."""
        try:
            found = self._config.lookup(alias)
            settings = _settings(found, user=user, port=port)
        except (paramiko.ConfigParseError, paramiko.CouldNotCanonicalize, ValueError, KeyError) as error:
            raise SshConfigError("~/.ssh/config", str(error)) from error
        return settings


def _settings(found: paramiko.SSHConfigDict, *, user: str | None, port: int | None) -> HostSettings:
    named = [_path(name) for name in found.get("identityfile", ()) if name.lower() != "none"]
    home = Path.home()
    user_files = shlex.split(found.get("userknownhostsfile", "")) or list(_DEFAULT_KNOWN_HOSTS)
    global_files = shlex.split(found.get("globalknownhostsfile", "")) or list(_GLOBAL_KNOWN_HOSTS)
    jump = found.get("proxyjump", "")
    return HostSettings(
        host=found["hostname"],
        port=port or int(found.get("port", DEFAULT_PORT)),
        user=user or found.get("user") or getpass.getuser(),
        identity_files=tuple(named) or tuple(home / ".ssh" / name for name in _DEFAULT_IDENTITIES),
        identities_named=bool(named),
        identities_only=found.get("identitiesonly", "no").lower() == "yes",
        use_agent=found.get("identityagent", "").lower() != "none",
        known_hosts=tuple(_path(name) for name in (*user_files, *global_files) if name.lower() != "none"),
        known_as=found.get("hostkeyalias", ""),
        proxy_command=found.get("proxycommand") or "",
        proxy_jump="" if jump.lower() == "none" else jump,
        timeout_s=float(found.get("connecttimeout", _DEFAULT_TIMEOUT_S)),
    )


def _named_by(line: str) -> Iterator[str]:
    """The literal names of a ``Host`` line."""
    key, _, value = line.strip().replace("=", " ", 1).partition(" ")
    if key.lower() == "host":
        yield from (name.strip('"') for name in value.split() if not set(name) & set("*?!"))


def _path(name: str) -> Path:
    return Path(name.replace("%d", str(Path.home()))).expanduser()


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
