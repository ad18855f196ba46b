"""An authenticated SSH connection: the way there, the device's key, the user's key."""

from __future__ import annotations

import base64
import contextlib
import getpass
import logging
import shlex
import socket
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko

from edgeq.device.known_hosts import DEFAULT_PORT, KnownKey, fingerprint, known_keys
from edgeq.device.ssh_alive import HeardSocket, Watch
from edgeq.device.ssh_cipher import NAME as CHACHA20_POLY1305
from edgeq.device.ssh_cipher import Wire
from edgeq.device.ssh_config import HostSettings, SshConfig
from edgeq.device.ssh_login import log_in
from edgeq.errors import (
    BadDeviceNameError,
    ChangedHostKeyError,
    RevokedHostKeyError,
    UnknownHostKeyError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What goes wrong is told by the errors below; without this, paramiko's thread prints tracebacks of its own.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

_AUTH_TIMEOUT_S = 30.0
_MOST_JUMPS = 8


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a device listens.

    ``host`` may be an alias of the SSH configuration; ``user`` and ``port``
    win over what that says, and ``key_path`` is then the only key offered.
    With ``host_key`` ("ssh-ed25519 AAAA...") the device must show exactly
    that key, and no file of the user's SSH configuration is read.
    """

    name: str
    host: str
    port: int | None = None
    user: str | None = None
    key_path: Path | None = None
    host_key: str | None = None


def nobody(_question: str) -> None:
    """The answer where nobody can be asked."""


class Connection:
    """An open, authenticated connection; :meth:`close` also ends the hops it goes through.

    ``ask`` puts a question for a secret to a person and says None if nobody
    is there to answer.
    """

    def __init__(self, address: Address, ask: Callable[[str], str | None] = nobody) -> None:
        self._ask = ask
        self._cleanup = contextlib.ExitStack()
        self._config: SshConfig | None = None
        try:
            self.wire = self._connect(address, self._settings(address), jumps=0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up; a second call does nothing."""
        self._cleanup.close()

    def _settings(self, address: Address) -> HostSettings:
        if address.host_key is None:
            self._config = self._config or SshConfig()
            return self._config.lookup(address.host, user=address.user, port=address.port)
        return HostSettings(
            host=address.host,
            port=address.port or DEFAULT_PORT,
            user=address.user or getpass.getuser(),
            identity_files=(),
            identities_named=True,
            identities_only=True,
            agent=None,
            known_hosts=(),
            known_as="",
            proxy_command="",
            proxy_jump="",
        )

    def _connect(self, address: Address, settings: HostSettings, *, jumps: int) -> paramiko.Transport:
        accepted = _accepted_keys(address, settings)
        wire, heard = self._start(address, settings, accepted, jumps=jumps, safe_everywhere=False)
        if wire.is_exposed():  # a server from before 2024: the cipher is sound there only if both sides count strictly
            _hang_up(wire)
            wire, heard = self._start(address, settings, accepted, jumps=jumps, safe_everywhere=True)
        _check_host_key(address, settings, accepted, wire.get_remote_server_key())
        log_in(wire, settings, name=address.name, alias=address.host, key_path=address.key_path, ask=self._ask)
        if settings.alive_s:
            watch = Watch(wire, heard, every_s=settings.alive_s, count=settings.alive_count)
            self._cleanup.callback(watch.stop)
        return wire

    def _start(
        self,
        address: Address,
        settings: HostSettings,
        accepted: tuple[KnownKey, ...],
        *,
        jumps: int,
        safe_everywhere: bool,
    ) -> tuple[Wire, HeardSocket]:
        """A connection that is encrypted, to whoever answers there."""
        sock, proxy_log = self._open(address, settings, jumps=jumps)
        heard = HeardSocket(sock)
        wire = Wire(heard)
        self._cleanup.callback(_hang_up, wire)
        _prefer(wire, accepted)
        if safe_everywhere:
            options = wire.get_security_options()
            options.ciphers = [cipher for cipher in options.ciphers if cipher != CHACHA20_POLY1305]
        wire.banner_timeout = settings.timeout_s
        wire.auth_timeout = _AUTH_TIMEOUT_S
        try:
            # The banner has its own bound below this one, which returns without a word when it is passed.
            wire.start_client(timeout=2 * settings.timeout_s)
        except paramiko.IncompatiblePeer as error:
            raise UnreachableError(
                address.name,
                _where(settings),
                str(error),
                hint="its SSH server is too old for safe algorithms: renew it",
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(
                address.name,
                _where(settings),
                proxy_log() or f"no SSH there ({error or 'it hung up'})",
                hint="check host and port, and that an SSH server listens there",
            ) from error
        return wire, heard

    def _open(self, address: Address, settings: HostSettings, *, jumps: int) -> tuple[Any, Callable[[], str]]:
        """A socket, or what stands for one, and what the proxy said if there is one."""
        if settings.proxy_jump:
            return self._jump(address, settings, jumps=jumps), str
        if settings.proxy_command:
            return self._proxy(settings.proxy_command)
        with _connection_errors(address, settings):
            sock = socket.create_connection((settings.host, settings.port), timeout=settings.timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if settings.alive_s:  # what is sent into a pulled cable is then an error as soon as silence is
            patience_ms = round(settings.alive_s * settings.alive_count * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
        self._cleanup.callback(sock.close)
        return sock, str

    def _jump(self, address: Address, settings: HostSettings, *, jumps: int) -> paramiko.Channel:
        """A channel through the hosts of ProxyJump, each with its own keys."""
        if jumps >= _MOST_JUMPS:
            raise BadDeviceNameError(address.name, f"more than {_MOST_JUMPS} ProxyJump hosts behind each other")
        before, _, last = settings.proxy_jump.rpartition(",")
        user, host, port = split_address(last.strip().removeprefix("ssh://"), device=address.name)
        hop = Address(name=f"{host} (on the way to {address.name})", host=host, port=port, user=user)
        hop_settings = self._settings(hop)
        if before:
            hop_settings = _through(hop_settings, before)
        wire = self._connect(hop, hop_settings, jumps=jumps + 1)
        try:
            return wire.open_channel(
                "direct-tcpip", (settings.host, settings.port), ("127.0.0.1", 0), timeout=settings.timeout_s
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(
                address.name,
                _where(settings),
                f"{host} cannot reach it ({error})",
                hint=f"check that the device is up, and its address as seen from {host}",
            ) from error

    def _proxy(self, command: str) -> tuple[socket.socket, Callable[[], str]]:
        """A socket whose other end is the ProxyCommand's stdin and stdout."""
        ours, theirs = socket.socketpair()
        self._cleanup.callback(ours.close)
        log = self._cleanup.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # closed with the connection
        with theirs:
            end = theirs.fileno()
            process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stdin=end, stdout=end, stderr=log)
        self._cleanup.callback(process.wait)
        self._cleanup.callback(process.terminate)

        def said() -> str:
            log.seek(0)
            words = log.read().decode(errors="replace").strip().splitlines()
            return f"ProxyCommand says: {words[-1]}" if words else ""

        return ours, said


def split_address(text: str, *, device: str) -> tuple[str | None, str, int | None]:
    """User, host and port of ``[user@]host[:port]``; an IPv6 address with a port stands in brackets."""
    user, _, place = text.rpartition("@")
    host, port = place, ""
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadDeviceNameError(device, "the bracket of the IPv6 address is not closed")
        port = rest[1:]
    elif place.count(":") == 1:
        host, _, port = place.partition(":")
    if not host or host.startswith("-") or any(char.isspace() or char == "/" for char in text):
        raise BadDeviceNameError(device, f"{text!r} names no host")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise BadDeviceNameError(device, f"{port!r} is no port")
    return user or None, host, int(port) if port else None


def _through(settings: HostSettings, jumps: str) -> HostSettings:
    return replace(settings, proxy_jump=jumps, proxy_command="")


def _hang_up(wire: paramiko.Transport) -> None:
    for channel in list(wire._channels.values()):  # noqa: SLF001  # paramiko has no other way to ask
        if channel.transport is None:
            # Ctrl-C came while paramiko opened it: it is listed, and closing it would need what it was not told yet.
            channel._set_transport(wire)  # noqa: SLF001  # as above
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # it may have hung up before
        wire.sock.shutdown(socket.SHUT_RDWR)  # wakes its thread, which would else look up in a tenth of a second only
    wire.close()
    wire.join(5.0)


def _where(settings: HostSettings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{settings.user}@{host}:{settings.port}"


@contextlib.contextmanager
def _connection_errors(address: Address, settings: HostSettings) -> Iterator[None]:
    """Say which of the ways to fail it was, and what to look at."""
    where = _where(settings)
    try:
        yield
    except socket.gaierror as error:
        raise UnreachableError(
            address.name,
            where,
            f"the name {settings.host!r} is not known here ({error.strerror})",
            hint="check its spelling; an address works too: ssh://USER@10.0.0.7",
        ) from error
    except TimeoutError as error:
        raise UnreachableError(
            address.name,
            where,
            f"no answer within {settings.timeout_s:g} s",
            hint="check that it has power, is on this network, and that no firewall stands between",
        ) from error
    except ConnectionRefusedError as error:
        raise UnreachableError(
            address.name,
            where,
            f"nothing listens on port {settings.port}",
            hint="check that its SSH server runs (systemctl status ssh), and the port",
        ) from error
    except OSError as error:
        raise UnreachableError(
            address.name,
            where,
            error.strerror or str(error),
            hint="check this machine's network and the address",
        ) from error


def _accepted_keys(address: Address, settings: HostSettings) -> tuple[KnownKey, ...]:
    if address.host_key is not None:
        key_type, encoded = address.host_key.split()[:2]
        where = f"the record of {address.name}"
        return (KnownKey(key_type=key_type, blob=base64.b64decode(encoded), revoked=False, where=where),)
    if settings.known_as:
        return known_keys(settings.known_as, DEFAULT_PORT, settings.known_hosts)
    return known_keys(settings.host, settings.port, settings.known_hosts)


def _prefer(wire: paramiko.Transport, accepted: tuple[KnownKey, ...]) -> None:
    """Ask for the kinds of host key that are known, so that a second key of a device is no surprise."""
    kinds = [key.key_type for key in accepted if not key.revoked]
    if "ssh-rsa" in kinds:  # the key's type; these are the signatures it gives
        kinds += ["rsa-sha2-512", "rsa-sha2-256"]
    options = wire.get_security_options()
    options.key_types = sorted(options.key_types, key=lambda kind: kind not in kinds)


def _check_host_key(
    address: Address, settings: HostSettings, accepted: tuple[KnownKey, ...], shown: paramiko.PKey
) -> None:
    blob: bytes = shown.asbytes()
    key_type: str = shown.get_name()
    name = settings.known_as or settings.host
    listed = name if settings.port == DEFAULT_PORT or settings.known_as else f"[{name}]:{settings.port}"
    for key in accepted:
        if key.revoked and key.blob == blob:
            raise RevokedHostKeyError(address.name, fingerprint=fingerprint(blob), where=key.where)
    if any(key.blob == blob for key in accepted):
        return
    file = settings.known_hosts[0] if settings.known_hosts else Path("~/.ssh/known_hosts")
    for key in accepted:
        if (key.key_type == key_type and key.of_port) or address.host_key is not None:
            raise ChangedHostKeyError(
                address.name,
                key_type=key_type,
                fingerprint=fingerprint(blob),
                where=key.where,
                forget=shlex.join(["ssh-keygen", "-f", str(file), "-R", listed]),
            )
    short = key_type.removeprefix("ssh-").split("-")[0]
    port = ["-p", str(settings.port)] if settings.port != DEFAULT_PORT else []
    raise UnknownHostKeyError(
        address.name,
        key_type=key_type,
        fingerprint=fingerprint(blob),
        keyscan=f"{shlex.join(['ssh-keyscan', '-t', short, *port, settings.host])} >> {shlex.quote(str(file))}",
        ssh=shlex.join(["ssh", *port, f"{settings.user}@{address.host}", "true"]),
    )
