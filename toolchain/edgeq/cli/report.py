"""``edgeq report``: write the report from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.schema import to_data
from edgeq.stages.report import terminal as shown

if TYPE_CHECKING:
    from edgeq.cli.terminal import Terminal
    from edgeq.stages.report import ReportFormat


@click.command(
    epilog=options.examples(
        "edgeq report build/fashion-mnist/rpi4",
        "edgeq report build/*/rpi4 --format html --out reports/",
    )
)
@click.argument("builds", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["md", "html", "json", "junit"]),
    help="May be repeated; md, html and json, if not given.",
)
@click.option("--out", type=click.Path(path_type=Path), help="A folder; the first BUILD, if not given.")
@options.shows
def command(terminal: Terminal, builds: tuple[Path, ...], formats: tuple[ReportFormat, ...], out: Path | None) -> None:
    """Write the report of BUILDS from what was measured: nothing is measured anew, nothing guessed."""
    written = pipeline.report(builds, formats=formats, out=out)
    terminal.result(
        {**to_data(written.report), "files": [str(path) for path in written.files], "left_out": written.left_out},
        lambda: shown.renderable(written.report),
    )
    options.tell_files(terminal, written)
