"""``edgeq gc``: make room on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.cli.fleet import on_devices
from edgeq.schema import to_data

if TYPE_CHECKING:
    from edgeq.cli.terminal import Terminal
    from edgeq.progress import Progress
    from edgeq.stages.store import Freed


@click.command(
    epilog=options.examples(
        "edgeq gc --device ssh://pi@raspberrypi.local",
        "edgeq gc --device kitchen --keep 1 --json",
    )
)
@options.device_option
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Deployments of each model to keep, the active one included; with 1 nothing is left to roll back to.",
)
@options.board_target_option
@options.shows
def command(terminal: Terminal, device: str, keep: int, target: str | None) -> None:
    """Remove old deployments from a device, the blobs that no deployment needs, and pushes that were cut.

    What is active stays. Another edgeq that uses the device is waited for.
    """

    def work(one: str, progress: Progress) -> Freed:
        return pipeline.clean_up(one, keep=keep, target=target, progress=progress)

    on_devices(terminal, device, work, data=to_data, text=_said, alone=lambda _, done: _said(done))


def _said(done: Freed) -> str:
    return f"{len(done.deployments)} deployments and {done.blobs} blobs removed, {done.freed_bytes / 1e6:.1f} MB freed"
