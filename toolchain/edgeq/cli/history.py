"""``edgeq history``: how the figures of a project moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.schema import to_data

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgeq.cli.terminal import Terminal
    from edgeq.stages.history.trend import Trend


@click.command(
    epilog=options.examples(
        "edgeq history examples/fashion_mnist",
        "edgeq history build/fashion-mnist/rpi4 --device board --limit 50",
        "edgeq history PROJECT --artifact fashion-mnist.int8-static.pte --json",
        "EDGEQ_HISTORY=postgresql://team@db/edgeq edgeq history PROJECT",
    )
)
@click.argument("of", metavar="[PROJECT|BUILD]", type=click.Path(path_type=Path), default=Path())
@click.option("--artifact", help="Only this artifact.")
@click.option("--device", help="Only what was measured on this device.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="So many of each artifact and device."
)
@options.shows
def command(terminal: Terminal, *, of: Path, artifact: str | None, device: str | None, limit: int) -> None:
    """Show how the figures of a PROJECT, or of one BUILD, moved from session to session of edgeq bench.

    A change is only called one where it is larger than noise and the
    tolerance of [check]. The history is PROJECT/.edgeq/history.db, or the
    database that EDGEQ_HISTORY or [history] url names.
    """
    found = pipeline.history(of, artifact=artifact, device=device, limit=limit)
    terminal.result(to_data(found), lambda: _shown(found))


def _shown(found: Trend) -> RenderableType:
    from edgeq.stages.history import shown  # noqa: PLC0415  # --json does without

    return shown.renderable(found)
