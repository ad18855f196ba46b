"""``edgeq deploy``: push a build to a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.device.inventory import BOARD
from edgeq.schema import to_data

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.cli.terminal import Terminal


@click.command(
    epilog=options.examples(
        "edgeq deploy build/fashion-mnist/rpi4 --device ssh://pi@raspberrypi.local",
        "edgeq deploy build/fashion-mnist/rpi4 --device board --json",
    )
)
@options.build_argument
@click.option("--device", required=True, help=options.DEVICE_HELP)
@options.shows
def command(terminal: Terminal, build: Path, device: str) -> None:
    """Push what is missing of BUILD, verify it on the device, activate it in one step.

    An emulated board that this starts goes on running for `edgeq bench`, until `edgeq board stop`.
    """
    what = pipeline.read_build(build)
    with (
        terminal.progress() as progress,
        pipeline.connected(what, device, lasting=True, progress=progress) as transport,
    ):
        done = pipeline.deploy(what, transport, device=device, progress=progress)
    sent = f"{done.transferred_bytes / 1e6:.1f} MB sent" if done.transferred_bytes else "nothing had to be sent"
    text = f"{done.deployment.model} is active on {device} ({sent}); next: edgeq bench {build} --device {device}"
    if device == BOARD:
        text += f"\nthe board runs on; stop it with: edgeq board stop {what.target.name}"
    terminal.result({"transferred_bytes": done.transferred_bytes, "deployment": to_data(done.deployment)}, text)
