"""``edgeq keys``: who signs deployments, and which devices trust whom."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from edgeq.cli.options import DEVICE_HELP, examples, shows
from edgeq.device import keyring
from edgeq.device.inventory import BOARD, open_device, store_root
from edgeq.device.store import Store
from edgeq.device.trust import distrust_key, read_trust, trust_key
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.cli.terminal import Terminal
    from edgeq.device.transport import Transport

_ANY_TARGET = "host"

_device_option = click.option("--device", required=True, help=DEVICE_HELP)
_target_option = click.option("--target", help="Whose emulated board `--device board` is.")


@click.group(
    epilog=examples(
        "edgeq keys new ci",
        "edgeq keys trust ci --device ssh://pi@raspberrypi.local",
        "edgeq deploy build/fashion-mnist/rpi4 --device ssh://pi@raspberrypi.local --sign ci",
    )
)
def command() -> None:
    """Make the keys that sign deployments, and tell devices which ones to trust.

    A device that trusts a key takes only deployments that one of its keys has
    signed, with every file as it was then, and none older than the active one.
    """


@command.command(epilog=examples("edgeq keys new", "edgeq keys new ci --json"))
@click.argument("name", default="default")
@shows
def new(terminal: Terminal, name: str) -> None:
    """Make an Ed25519 pair called NAME; `default`, if not given. One that is there is never overwritten."""
    key = keyring.make_key(name)
    path = keyring.keys_dir() / name
    terminal.result(
        {**_shown(key), "private_key": str(path)},
        f"{key.name} is {key.fingerprint}\nthe private half is {path}: keep it to yourself; "
        f"next: edgeq keys trust {name} --device DEV",
    )


@command.command("list", epilog=examples("edgeq keys list", "edgeq keys list --device pi --json"))
@click.option("--device", help=f"The keys that it trusts, instead of those that are here. {DEVICE_HELP}")
@_target_option
@shows
def list_(terminal: Terminal, device: str | None, target: str | None) -> None:
    """List the keys that are here, or those that a device trusts."""
    if device is None:
        keys = keyring.own_keys()
        lines = [
            f"{key.name}  {key.fingerprint}" + ("" if keyring.has_private(key.name) else "  (public half only)")
            for key in keys
        ]
        terminal.result([_shown(key) for key in keys], "\n".join(lines) or "no key is here; make one: edgeq keys new")
        return
    with _open(terminal, device, target) as (transport, root):
        trusted = read_trust(transport, root).keys
    terminal.result(
        [{"name": name, "public_key": line} for name, line in sorted(trusted.items())],
        "\n".join(f"{name}  {line}" for name, line in sorted(trusted.items()))
        or f"{device} trusts no key: it takes every deployment",
    )


@command.command(epilog=examples("edgeq keys show ci", "edgeq keys show ./ci.pub --json"))
@click.argument("key")
@shows
def show(terminal: Terminal, key: str) -> None:
    """Show the public half of KEY (a name, or the path of a .pub file) and its fingerprint."""
    found = keyring.public_key(key)
    terminal.result(_shown(found), f"{found.line}\n{found.fingerprint}")


@command.command(epilog=examples("edgeq keys trust ci --device pi", "edgeq keys trust ./ci.pub --device kitchen"))
@click.argument("key")
@_device_option
@_target_option
@shows
def trust(terminal: Terminal, key: str, device: str, target: str | None) -> None:
    """Let a device trust KEY (a name, or the path of a .pub file): from then on it takes signed deployments only."""
    found = keyring.public_key(key)
    with _open(terminal, device, target) as (transport, root):
        trust_key(transport, root, found)
    terminal.result({**_shown(found), "device": device}, f"{device} trusts {found.name} ({found.fingerprint})")


@command.command(epilog=examples("edgeq keys distrust ci --device pi"))
@click.argument("name")
@_device_option
@_target_option
@shows
def distrust(terminal: Terminal, name: str, device: str, target: str | None) -> None:
    """Take the key NAME from those that a device trusts; one that trusts none takes every deployment."""
    with _open(terminal, device, target) as (transport, root):
        distrust_key(transport, root, name)
        left = sorted(read_trust(transport, root).keys)
    terminal.result(
        {"name": name, "device": device, "trusted": left},
        f"{device} does not trust {name} any more; "
        + (f"it trusts {', '.join(left)}" if left else "it trusts no key now and takes every deployment"),
    )


@contextlib.contextmanager
def _open(terminal: Terminal, device: str, target: str | None) -> Iterator[tuple[Transport, str]]:
    """A way to a device, and the folder of edgeq there."""
    if device == BOARD and target is None:
        raise click.UsageError("--device board needs --target, whose emulated board it is")
    with (
        terminal.progress() as progress,
        open_device(device, load_target(target or _ANY_TARGET), lasting=True, progress=progress) as transport,
    ):
        yield transport, Store(transport, store_root(device)).root


def _shown(key: keyring.PublicKey) -> dict[str, str]:
    return {"name": key.name, "fingerprint": key.fingerprint, "public_key": key.line}
