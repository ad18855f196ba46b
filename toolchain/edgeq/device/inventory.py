"""Which devices there are, and a way to each by its name."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgeq.device import board
from edgeq.device.adb import HOME as ANDROID_HOME
from edgeq.device.adb import AdbTransport
from edgeq.device.local import LocalTransport
from edgeq.device.ssh import SshTransport
from edgeq.device.ssh_config import SshConfig
from edgeq.device.ssh_connection import Address, nobody, split_address
from edgeq.errors import BadDeviceNameError, BareMetalError, UnknownNameError, WhichBoardError
from edgeq.progress import Asker
from edgeq.schema import from_data, read_toml
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edgeq.device.transport import Transport
    from edgeq.progress import Progress
    from edgeq.target import Target

LOCAL = "local"
BOARD = "board"
ADB = "adb"
HOST = "host"
DEFAULT_ROOT = ".edgeq"
ANDROID_ROOT = f"{ANDROID_HOME}/edgeq"
_BOARD_OF = "board:"
_SCHEME = "ssh://"
_ADB_SCHEME = "adb://"


@dataclass(frozen=True, kw_only=True)
class DeviceEntry:
    """A table of devices.toml.

    ``host`` may be an alias of ``~/.ssh/config``, or ``adb://SERIAL``;
    ``key`` is the private key to offer instead of the usual ones; ``root``
    is where edgeq keeps its files there, from the user's home, if not where
    it usually does. A table with ``devices`` instead of a host is a name for
    all of those.
    """

    host: str = ""
    user: str | None = None
    port: int | None = None
    key: str | None = None
    root: str | None = None
    devices: tuple[str, ...] = ()


def devices_file() -> Path:
    """Where the user's own devices are named."""
    return Path.home() / ".config" / "edgeq" / "devices.toml"


def entries() -> dict[str, DeviceEntry]:
    """The devices of devices.toml by name; none without that file, ConfigError if it is wrong."""
    path = devices_file()
    if not path.exists():
        return {}
    found = from_data(dict[str, DeviceEntry], read_toml(path), where=str(path))
    for name in found:
        if name in (LOCAL, BOARD, ADB) or name.startswith((_SCHEME, _ADB_SCHEME, _BOARD_OF)) or "," in name:
            raise BadDeviceNameError(name, f"{path} gives this name, which means something else already")
        if bool(found[name].host) == bool(found[name].devices):
            raise BadDeviceNameError(name, f"{path} must give it either a host or devices")
    return found


@dataclass(frozen=True, kw_only=True)
class Known:
    """A name that ``--device`` takes: the ``way`` to it, ``what`` it is, and where edgeq's files lie there."""

    name: str
    way: Literal["local", "board", "ssh", "adb", "group"]
    what: str
    root: str


def inventory() -> tuple[Known, ...]:
    """Every name of :func:`known_devices` and each emulated board that runs, with what is known without going there."""
    running = [
        Known(name=f"{_BOARD_OF}{one.target}", way="board", what=f"runs, port {one.port}", root=DEFAULT_ROOT)
        for one in board.running()
    ]
    return (*map(_known, known_devices()), *running)


def _known(name: str) -> Known:
    entry = entries().get(name)
    if entry is not None and entry.devices:
        return Known(name=name, way="group", what=", ".join(entry.devices), root="")
    if name == LOCAL:
        return Known(name=name, way="local", what="this machine", root=store_root(name))
    if name == BOARD:
        return Known(name=name, way="board", what="the emulated board of the build's target", root=store_root(name))
    if name == ADB:
        return Known(name=name, way="adb", what="the only Android device", root=store_root(name))
    host = "a Host of ~/.ssh/config" if entry is None else entry.host
    user, port = (None, None) if entry is None else (entry.user, entry.port)
    address = f"{user}@{host}" if user else host
    way: Literal["adb", "ssh"] = "adb" if host.startswith(_ADB_SCHEME) else "ssh"
    return Known(name=name, way=way, what=f"{address}:{port}" if port else address, root=store_root(name))


def known_devices() -> tuple[str, ...]:
    """Every name that :func:`open_device` takes, but for addresses."""
    return tuple(dict.fromkeys((LOCAL, BOARD, ADB, *sorted(entries()), *SshConfig().aliases())))


def devices_of(word: str) -> tuple[str, ...]:
    """The devices that ``--device`` names, each once: a list with commas, of which any may be a group of devices.toml.

    Raises BadDeviceNameError for a list that names nothing, or a group that contains itself.
    """
    named = entries()
    found: dict[str, None] = {}

    def add(words: Iterable[str], within: tuple[str, ...]) -> None:
        for one in words:
            if one in within:
                raise BadDeviceNameError(one, f"the group contains itself in {devices_file()}")
            if one in named and named[one].devices:
                add(named[one].devices, (*within, one))
            else:
                found[one] = None

    add((one for part in word.split(",") if (one := part.strip())), ())
    if not found:
        raise BadDeviceNameError(word, "it names no device")
    return tuple(found)


def store_root(device: str) -> str:
    """The folder of edgeq on a device, from the home of its user unless absolute."""
    entry = _entry(device)
    usual = ANDROID_ROOT if is_android(device) else DEFAULT_ROOT
    return entry.root if entry and entry.root else usual


def is_android(device: str) -> bool:
    """Whether adb is the way to that device."""
    entry = _entry(device)
    host = entry.host if entry else device
    return host == ADB or host.startswith(_ADB_SCHEME)


def _entry(device: str) -> DeviceEntry | None:
    """The table of devices.toml, if that is what the name names."""
    if device in (LOCAL, BOARD, ADB) or device.startswith((_SCHEME, _ADB_SCHEME, _BOARD_OF)):
        return None
    return entries().get(device)


def default_device(target: Target) -> str:
    """Where a target is measured unless the user says: its emulated board, or this machine if it has none."""
    return BOARD if target.emulation else LOCAL


def default_target(device: str) -> str:
    """The target whose facts a device is asked with when no build names one.

    Of ``board`` that of the emulated board that runs, as one that does not
    run holds nothing; WhichBoardError if none or more than one does.
    """
    if device.startswith(_BOARD_OF):
        return device.removeprefix(_BOARD_OF)
    if device != BOARD:
        return HOST
    running = [one.target for one in board.running()]
    if len(running) != 1:
        raise WhichBoardError(running)
    return running[0]


def require_device(device: str, target: Target) -> None:
    """Raise what :func:`open_device` would, as far as it can be known without going there."""
    if target.bare_metal:
        raise BareMetalError(target.name)
    if is_board(device):
        board.require(_target_of(device, target))
    elif is_android(device):
        serial_of(device)
    elif device != LOCAL:
        address_of(device)


@contextlib.contextmanager
def open_device(device: str, target: Target, *, lasting: bool = False, progress: Progress) -> Iterator[Transport]:
    """A way to the device for as long as the block lasts.

    ``local`` is this machine; ``board`` the emulated board of ``target``,
    ``board:NAME`` that of another target, the running one or one that lives
    as long as the block, or on after it if ``lasting``;
    ``ssh://[user@]host[:port]`` an address; ``adb://SERIAL`` an Android
    device, ``adb`` the only one; anything else is looked up in
    devices.toml, then in ``~/.ssh/config``. Raises UnknownNameError with
    the nearest name, BadDeviceNameError, or what stood in the way;
    BareMetalError if the ``target`` is one that no device can stand for.
    """
    if target.bare_metal:
        raise BareMetalError(target.name)
    with contextlib.ExitStack() as stack:
        if device == LOCAL:
            yield LocalTransport()
            return
        if is_android(device):
            progress.step(f"connecting to {device}")
            yield AdbTransport.connect(device, serial_of(device))
            return
        if is_board(device):
            emulated = _target_of(device, target)
            running = (
                board.start(emulated, progress=progress)
                if lasting
                else stack.enter_context(board.ephemeral(emulated, progress=progress))
            )
            address = Address(
                name=device,
                host=running.host,
                port=running.port,
                user=running.user,
                key_path=running.key_path,
                host_key=running.host_key,
            )
        else:
            address = address_of(device)
        progress.step(f"connecting to {device}")
        ask = progress.ask if isinstance(progress, Asker) else nobody
        yield stack.enter_context(contextlib.closing(SshTransport.connect(address, ask)))


def is_board(device: str) -> bool:
    """Whether that names an emulated board."""
    return device == BOARD or device.startswith(_BOARD_OF)


def _target_of(device: str, target: Target) -> Target:
    """Whose emulated board ``device`` is."""
    return target if device == BOARD else load_target(device.removeprefix(_BOARD_OF))


def serial_of(device: str) -> str | None:
    """The serial of an Android device; None is the only one there is."""
    entry = _entry(device)
    host = entry.host if entry else device
    serial = host.removeprefix(_ADB_SCHEME).rstrip("/")
    if host == ADB:
        return None
    if not serial or not serial.isprintable() or " " in serial or "/" in serial:
        raise BadDeviceNameError(device, f"{host!r} names no serial; `adb devices` lists them")
    return serial


def address_of(device: str) -> Address:
    """The address behind a name of a device that SSH is the way to."""
    if device.startswith(_SCHEME):
        user, host, port = split_address(device.removeprefix(_SCHEME).rstrip("/"), device=device)
        return Address(name=device, host=host, user=user, port=port)
    named = entries()
    if device in named:
        entry = named[device]
        if entry.devices:
            raise BadDeviceNameError(device, f"it is a group; name one of {', '.join(devices_of(device))}")
        key = Path(entry.key).expanduser() if entry.key else None
        return Address(name=device, host=entry.host, user=entry.user, port=entry.port, key_path=key)
    if device in SshConfig().aliases():
        return Address(name=device, host=device)
    if "," in device:
        raise BadDeviceNameError(device, "these are several devices, and this command works one")
    hint_names = [name for name in known_devices() if name != device]
    raise UnknownNameError("device", device, hint_names, where=f"not in {devices_file()} nor ~/.ssh/config")
