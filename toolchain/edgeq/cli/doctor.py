"""``edgeq doctor``: what is missing here and on a device, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.cli.fleet import on_devices
from edgeq.schema import to_data
from edgeq.stages.report.figures import printable

if TYPE_CHECKING:
    from rich.table import Table

    from edgeq.cli.terminal import Terminal
    from edgeq.progress import Progress
    from edgeq.stages.doctor import Diagnosis

_STYLES = {"ok": "green", "unknown": "dim", "warning": "yellow", "problem": "bold red"}


@click.command(
    epilog=options.examples(
        "edgeq doctor                               this machine",
        "edgeq doctor ssh://pi@raspberrypi.local    and that board",
        "edgeq doctor board --target rpi5 --json    and an emulated Raspberry Pi 5",
        "edgeq doctor kitchen,hall                  and these two, or a group of devices.toml",
    )
)
@click.argument("device", required=False, metavar="[DEV]", shell_complete=options.complete_devices)
@click.option(
    "--target",
    shell_complete=options.complete_targets,
    help=f"What DEV is held against: a name that `edgeq targets` lists, or your own TOML file. For `board` the one "
    f"that is emulated: of the one that runs, or {pipeline.DOCTORS_BOARD}, if not given.",
)
@options.shows
def command(terminal: Terminal, device: str | None, target: str | None) -> None:
    """Say what edgeq needs of this machine, and of the device DEV, what is missing, and how to mend it.

    DEV is what `--device` of other commands takes, also several as `a,b` or a group of devices.toml: they are looked at
    at once, and what is wrong with each is told. Nothing is left on them.

    Exit status: 0, also with warnings; 4 if DEV cannot be reached or has a problem that stops edgeq; else 3 if this
    machine has one, such as a program that DEV needs here and that is missing. Of several devices the status of
    those that have one if they agree, else 4.
    """
    if device is None:
        with terminal.progress() as progress:
            here = pipeline.doctor(None, target=target, progress=progress)
        terminal.result(_data(here), lambda: _table(here))
        click.get_current_context().exit(here.exit_code)

    def work(one: str, progress: Progress) -> Diagnosis:
        return pipeline.doctor(one, target=target, progress=progress)

    on_devices(
        terminal,
        device,
        work,
        data=_data,
        text=_troubles,
        alone=lambda _, found: _table(found),
        status=lambda found: found.exit_code,
    )


def _data(found: Diagnosis) -> dict[str, object]:
    return {**to_data(found), "exit_code": found.exit_code}


def _troubles(found: Diagnosis) -> str:
    """What is not as it should be, a finding and its remedy a line."""
    lines = [
        f"{one.severity}: {printable(one.text)}" + (f" -> {printable(one.remedy)}" if one.remedy else "")
        for one in found.findings
        if one.severity in {"problem", "warning"}
    ]
    return "\n".join(lines) or "nothing is wrong"


def _table(found: Diagnosis) -> Table:
    from rich.table import Table  # noqa: PLC0415  # --json does without
    from rich.text import Text  # noqa: PLC0415  # as above

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found.findings:
        word = one.severity.upper() if one.severity == "problem" else one.severity
        table.add_row(Text(word, style=_STYLES[one.severity]), one.code, Text(printable(one.text)))
        if one.remedy:
            table.add_row("", "", Text.assemble(("->", "dim"), " ", printable(one.remedy)))
    return table
