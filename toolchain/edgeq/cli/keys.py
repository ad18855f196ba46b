"""``edgeq keys``: who signs deployments, and which devices trust whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli.fleet import on_devices
from edgeq.cli.options import DEVICE_HELP, board_target_option, complete_devices, device_option, examples, shows
from edgeq.device import keyring
from edgeq.device.inventory import default_target, open_device, store_root
from edgeq.device.store import Store
from edgeq.device.trust import distrust_key, read_trust, trust_key
from edgeq.target import load_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeq.cli.terminal import Terminal
    from edgeq.device.transport import Transport
    from edgeq.progress import Progress


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
@click.option(
    "--device",
    shell_complete=complete_devices,
    help=f"The keys that it trusts, instead of those that are here. {DEVICE_HELP}",
)
@board_target_option
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
    _on_each(terminal, device, target, lambda _transport, _root: None)


@command.command(epilog=examples("edgeq keys show ci", "edgeq keys show ./ci.pub --json"))
@click.argument("key")
@shows
def show(terminal: Terminal, key: str) -> None:
    """Show the public half of KEY (a name, or the path of a .pub file) and its fingerprint."""
    found = keyring.public_key(key)
    terminal.result(_shown(found), f"{found.line}\n{found.fingerprint}")


@command.command(epilog=examples("edgeq keys trust ci --device pi", "edgeq keys trust ./ci.pub --device kitchen,hall"))
@click.argument("key")
@device_option
@board_target_option
@shows
def trust(terminal: Terminal, key: str, device: str, target: str | None) -> None:
    """Let a device trust KEY (a name, or the path of a .pub file): from then on it takes signed deployments only."""
    found = keyring.public_key(key)
    _on_each(terminal, device, target, lambda transport, root: trust_key(transport, root, found))


@command.command(epilog=examples("edgeq keys distrust ci --device pi"))
@click.argument("name")
@device_option
@board_target_option
@shows
def distrust(terminal: Terminal, name: str, device: str, target: str | None) -> None:
    """Take the key NAME from those that a device trusts; one that trusts none takes every deployment."""
    _on_each(terminal, device, target, lambda transport, root: distrust_key(transport, root, name))


def _on_each(terminal: Terminal, device: str, target: str | None, change: Callable[[Transport, str], None]) -> None:
    """Change what devices trust, and show what each of them trusts then."""

    def work(one: str, progress: Progress) -> dict[str, str]:
        facts = load_target(target or default_target(one))
        with open_device(one, facts, lasting=True, progress=progress) as transport:
            root = Store(transport, store_root(one)).root
            change(transport, root)
            return read_trust(transport, root).keys

    on_devices(terminal, device, work, data=_trusted, text=_said, alone=lambda one, keys: f"{one} {_said(keys)}")


def _trusted(keys: dict[str, str]) -> dict[str, object]:
    return {"trusted": [{"name": name, "public_key": line} for name, line in sorted(keys.items())]}


def _said(keys: dict[str, str]) -> str:
    return f"trusts {', '.join(sorted(keys))}" if keys else "trusts no key: it takes every deployment"


def _shown(key: keyring.PublicKey) -> dict[str, str]:
    return {"name": key.name, "fingerprint": key.fingerprint, "public_key": key.line}
