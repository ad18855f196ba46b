"""``edgeq rollback``: back to the deployment before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.cli.fleet import canary_option, on_devices
from edgeq.schema import to_data

if TYPE_CHECKING:
    from edgeq.cli.terminal import Terminal
    from edgeq.progress import Progress
    from edgeq.stages.store import RolledBack


@click.command(
    epilog=options.examples(
        "edgeq rollback --device ssh://pi@raspberrypi.local fashion-mnist",
        "edgeq rollback --device kitchen,hall,attic fashion-mnist",
        "edgeq rollback --device board fashion-mnist@rpi4 --json",
    )
)
@click.argument("name")
@options.device_option
@canary_option
@options.board_target_option
@options.shows
def command(terminal: Terminal, name: str, device: str, canary: int | None, target: str | None) -> None:
    """Make the deployment of NAME before the active one active again, in one step.

    NAME is a model, or MODEL@TARGET where the device holds it for several targets. The deployment is verified before:
    its own runner hashes every file. Doing it twice goes forward again.
    """

    def work(one: str, progress: Progress) -> RolledBack:
        return pipeline.roll_back(one, name, target=target, progress=progress)

    on_devices(
        terminal,
        device,
        work,
        canary=canary,
        data=to_data,
        text=_said,
        alone=lambda one, done: f"on {one} {_said(done)}",
    )


def _said(done: RolledBack) -> str:
    return f"{done.name} is {done.active} again; it was {done.before}"
