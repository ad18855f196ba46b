"""``edgeq deploy``: push a build to a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.device.inventory import BOARD
from edgeq.schema import to_data

if TYPE_CHECKING:
    from rich.table import Table

    from edgeq.cli.terminal import Terminal
    from edgeq.stages.store import Held


@click.command(
    epilog=options.examples(
        "edgeq deploy build/fashion-mnist/rpi4 --device ssh://pi@raspberrypi.local",
        "edgeq deploy build/fashion-mnist/rpi4 --device board --json",
        "edgeq deploy --list --device ssh://pi@raspberrypi.local",
    )
)
@click.argument("build", required=False, type=click.Path(path_type=Path))
@click.option("--device", required=True, help=options.DEVICE_HELP)
@click.option("--list", "listing", is_flag=True, help="Say what the device holds instead; takes no BUILD.")
@click.option("--verify", is_flag=True, help="Hash and try every file there again, even if none was touched.")
@options.board_target_option
@options.shows
def command(  # noqa: PLR0917  # the options of a command
    terminal: Terminal,
    build: Path | None,
    device: str,
    listing: bool,  # noqa: FBT001  # click passes flags so
    verify: bool,  # noqa: FBT001  # as above
    target: str | None,
) -> None:
    """Push what is missing of BUILD, verify and try it on the device, activate it in one step.

    Every file is hashed there, and every artifact runs on an input whose output is known; until both have passed,
    the deployment before stays active. A push that was cut goes on where it stopped.

    An emulated board that this starts goes on running for `edgeq bench`, until `edgeq board stop`.
    """
    if (build is None) != listing:
        raise click.UsageError("name a BUILD, or say --list")
    if build is None:
        with terminal.progress() as progress:
            found = pipeline.held(device, target=target, progress=progress)
        terminal.result({"deployments": [to_data(one) for one in found]}, lambda: _table(found, device))
        return
    what = pipeline.read_build(build)
    with (
        terminal.progress() as progress,
        pipeline.connected(what, device, lasting=True, progress=progress) as transport,
    ):
        done = pipeline.deploy(what, transport, device=device, verify=verify, progress=progress)
    sent = f"{done.transferred_bytes / 1e6:.1f} MB sent" if done.transferred_bytes else "nothing had to be sent"
    sent = "nothing has changed there" if done.unchanged else sent
    text = f"{done.deployment.model} is active on {device} ({sent}); next: edgeq bench {build} --device {device}"
    if device == BOARD:
        text += f"\nthe board runs on; stop it with: edgeq board stop {what.target.name}"
    result = {"transferred_bytes": done.transferred_bytes, "unchanged": done.unchanged}
    terminal.result({**result, "deployment": to_data(done.deployment)}, text)


def _table(found: tuple[Held, ...], device: str) -> Table | str:
    if not found:
        return f"{device} holds no deployment"
    from rich.table import Table  # noqa: PLC0415  # --json does without

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "deployment", "", "made", "files", "size"):
        table.add_column(column)
    for one in found:
        state = "active" if one.active else ""
        table.add_row(
            one.name or "(none)", one.id, state, one.made_at, str(one.files), f"{one.size_bytes / 1e6:.1f} MB"
        )
    return table
