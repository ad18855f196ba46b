"""``edgeq board``: emulated boards."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from edgeq.cli.options import examples, shows
from edgeq.device import board
from edgeq.errors import BoardNotRunningError, MissingToolError
from edgeq.schema import to_data
from edgeq.target import load_target

if TYPE_CHECKING:
    from rich.table import Table

    from edgeq.cli.terminal import Terminal


@click.group(
    epilog=examples(
        "edgeq board start rpi4",
        "edgeq board ssh rpi4 -- uname -m",
        "edgeq board list",
        "edgeq board stop rpi4",
    )
)
def command() -> None:
    """Start, stop and enter emulated boards: real Linux and a real sshd on QEMU.

    They are reachable from this machine only, unless `start --listen` says otherwise.
    """


@command.command(
    epilog=examples(
        "edgeq board start rpi4",
        "edgeq board start rpi5 --name second",
        "edgeq board start rpi4 --listen 0.0.0.0:2222      other machines can reach it, with its key",
    )
)
@click.argument("target")
@click.option("--name", help="What to call it; the target's name, if not given.")
@click.option(
    "--listen",
    metavar="ADDRESS[:PORT]",
    help="Where its ssh listens, instead of a free port of 127.0.0.1. A board that other machines can reach "
    "boots each time: it neither begins from a snapshot nor leaves one.",
)
@shows
def start(terminal: Terminal, target: str, name: str | None, listen: str | None) -> None:
    """Start the emulated board of TARGET, or say that it runs already."""
    listening = None if listen is None else board.parse_listening(listen)
    with terminal.progress() as progress:
        running = board.start(load_target(target), name=name, listening=listening, progress=progress)
    terminal.result(to_data(running), _introduced(running))


@command.command(epilog=examples("edgeq board stop rpi4", "edgeq board stop --all"))
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Stop every board.")
@shows
def stop(terminal: Terminal, name: str | None, everything: bool) -> None:  # noqa: FBT001  # click passes flags so
    """Stop the board called NAME; nothing of it is left behind."""
    if (name is None) != everything:
        raise click.UsageError("name a board, or say --all")
    names = [name] if name else [running.name for running in board.running()]
    for one in names:
        board.stop(one)
    terminal.result({"stopped": names}, "stopped " + ", ".join(names) if names else "no board was running")


@command.command("list", epilog=examples("edgeq board list", "edgeq board list --json"))
@shows
def list_(terminal: Terminal) -> None:
    """List the boards that run."""
    boards = board.running()
    terminal.result([to_data(one) for one in boards], lambda: _table(boards))


@command.command(
    context_settings={"ignore_unknown_options": True},
    epilog=examples("edgeq board ssh rpi4", "edgeq board ssh rpi4 -- uname -m"),
)
@click.argument("name")
@click.argument("remote", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, remote: tuple[str, ...]) -> None:
    """Open a shell on the board called NAME, or run a command there."""
    running = {one.name: one for one in board.running()}
    if name not in running:
        raise BoardNotRunningError(name, running)
    one = running[name]
    settings = {
        "HostName": one.host,
        "Port": str(one.port),
        "User": one.user,
        "IdentityFile": f'"{one.key_path}"',
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        # The board's key is pinned here and written to nobody's known_hosts.
        "UserKnownHostsFile": "none",
        "GlobalKnownHostsFile": "none",
        "KnownHostsCommand": f"/bin/echo [{one.host}]:{one.port} {one.host_key}",
        "LogLevel": "ERROR",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    try:
        # The user's own terminal and signals go straight to ssh.
        os.execvp("ssh", ["ssh", "-F", "none", *options, one.name, *remote])  # noqa: S606
    except FileNotFoundError:
        raise MissingToolError("ssh", needed_for="edgeq board ssh", package="openssh-client") from None


@command.command(epilog=examples("edgeq board logs rpi4"))
@click.argument("name")
def logs(name: str) -> None:
    """Print the serial console of the board called NAME."""
    click.echo(board.logs(name).read_text(encoding="utf-8", errors="replace"), nl=False)


def _introduced(one: board.RunningBoard) -> str:
    up = f"{one.name} is up on {one.listening.address}:{one.port}; enter it with: edgeq board ssh {one.name}"
    if one.listening.reachable_from_here_only:
        return up
    return (
        f"{up}\nfrom elsewhere it is ssh://{one.user}@THIS-MACHINE:{one.port}, with a copy of the key {one.key_path}; "
        f"the line for known_hosts there:\n[THIS-MACHINE]:{one.port} {one.host_key}"
    )


def _table(boards: tuple[board.RunningBoard, ...]) -> Table | str:
    if not boards:
        return "no board is running; start one with: edgeq board start rpi4"
    from rich.table import Table  # noqa: PLC0415  # --json does without

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "target", "address", "process"):
        table.add_column(column)
    for one in boards:
        table.add_row(one.name, one.target, f"{one.user}@{one.listening.address}:{one.port}", str(one.pid))
    return table
