"""``edgeq devices``: what ``--device`` may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli.options import examples, shows
from edgeq.device.inventory import Known, inventory
from edgeq.schema import to_data
from edgeq.stages.report.figures import printable

if TYPE_CHECKING:
    from rich.table import Table

    from edgeq.cli.terminal import Terminal


@click.command(epilog=examples("edgeq devices", "edgeq devices --json"))
@shows
def command(terminal: Terminal) -> None:
    """List what `--device` may name, without asking any of it: `edgeq doctor NAME` does that.

    Your own are in ~/.config/edgeq/devices.toml and ~/.ssh/config; an address such as ssh://pi@rpi needs no name.
    """
    found = inventory()
    terminal.result([to_data(one) for one in found], lambda: _table(found))


def _table(found: tuple[Known, ...]) -> Table:
    from rich.table import Table  # noqa: PLC0415  # --json does without

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("device", "way", "is", "store"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(*map(printable, (one.name, one.way, one.what, one.root)))
    return table
