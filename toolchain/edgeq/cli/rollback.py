"""``edgeq rollback``: back to the deployment before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.schema import to_data

if TYPE_CHECKING:
    from edgeq.cli.terminal import Terminal


@click.command(
    epilog=options.examples(
        "edgeq rollback --device ssh://pi@raspberrypi.local fashion-mnist",
        "edgeq rollback --device board fashion-mnist@rpi4 --json",
    )
)
@click.argument("name")
@click.option("--device", required=True, help=options.DEVICE_HELP)
@options.board_target_option
@options.shows
def command(terminal: Terminal, name: str, device: str, target: str | None) -> None:
    """Make the deployment of NAME before the active one active again, in one step.

    NAME is a model, or MODEL@TARGET where the device holds it for several targets. The deployment is verified before:
    its own runner hashes every file. Doing it twice goes forward again.
    """
    with terminal.progress() as progress:
        done = pipeline.roll_back(device, name, target=target, progress=progress)
    terminal.result(to_data(done), f"{done.name} on {device} is {done.active} again; it was {done.before}")
