"""``edgeq doctor``: what is missing here and on a device, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.schema import to_data

if TYPE_CHECKING:
    from rich.table import Table

    from edgeq.cli.terminal import Terminal
    from edgeq.stages.doctor import Diagnosis

_SHOWN = {"ok": "[green]ok[/]", "unknown": "[dim]unknown[/]", "warning": "[yellow]warning[/]"}
_PROBLEM = "[bold red]PROBLEM[/]"


@click.command(
    epilog=options.examples(
        "edgeq doctor                               this machine",
        "edgeq doctor ssh://pi@raspberrypi.local    and that board",
        "edgeq doctor board --target rpi5 --json    and an emulated Raspberry Pi 5",
    )
)
@click.argument("device", required=False, metavar="[DEV]")
@click.option(
    "--target",
    shell_complete=options.complete_targets,
    help=f"What DEV is held against: a name that `edgeq targets` lists, or your own TOML file. For `board` the one "
    f"that is emulated: of the one that runs, or {pipeline.DOCTORS_BOARD}, if not given.",
)
@options.shows
def command(terminal: Terminal, device: str | None, target: str | None) -> None:
    """Say what edgeq needs of this machine, and of the device DEV, what is missing, and how to mend it.

    DEV is one device that `--device` of other commands takes. Nothing is left on it.

    Exit status: 0, also with warnings; 4 if DEV cannot be reached or has a problem that stops edgeq; else 3 if this
    machine has one, such as a program that DEV needs here and that is missing.
    """
    with terminal.progress() as progress:
        found = pipeline.doctor(device, target=target, progress=progress)
    terminal.result({**to_data(found), "exit_code": found.exit_code}, lambda: _table(found))
    click.get_current_context().exit(found.exit_code)


def _table(found: Diagnosis) -> Table:
    from rich.markup import escape  # noqa: PLC0415  # --json does without
    from rich.table import Table  # noqa: PLC0415  # as above

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found.findings:
        table.add_row(_SHOWN.get(one.severity, _PROBLEM), one.code, escape(_plain(one.text)))
        if one.remedy:
            table.add_row("", "", f"[dim]->[/] {escape(_plain(one.remedy))}")
    return table


def _plain(text: str) -> str:
    """Without what would move the cursor or colour the terminal: a device chose some of these words."""
    return "".join(letter for letter in text if letter.isprintable())
