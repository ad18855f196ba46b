"""``edgeq explain``: why an artifact is what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.errors import NotAnSvgError
from edgeq.files import write_text
from edgeq.installed import require
from edgeq.schema import to_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.cli.terminal import Terminal
    from edgeq.records import Numerics


@click.command(
    epilog=options.examples(
        "edgeq explain build/fashion-mnist/rpi4",
        "edgeq explain build/fashion-mnist/rpi4 fashion-mnist.int8-static.onnx --nodes",
        "edgeq explain build/fashion-mnist/rpi4 fashion-mnist.int8-static.pte --numerics",
        "edgeq explain build/fashion-mnist/rpi4 int8-static --plot layers.svg",
    )
)
@options.build_argument
@click.argument("artifact", required=False, shell_complete=options.complete_artifacts)
@click.option("--nodes", is_flag=True, help="List every node: its kernel, what it runs in, its share, your line.")
@click.option("--numerics", is_flag=True, help="Which layers lose accuracy, how much, and what to do about it.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the layers into this SVG file; implies --numerics. With several recipes, each gets a file of its own.",
)
@options.shows
def command(
    terminal: Terminal, build: Path, artifact: str | None, *, nodes: bool, numerics: bool, plot: Path | None
) -> None:
    """Say what of a BUILD stayed in float or was not delegated, and why; or which layers lose accuracy.

    ARTIFACT is a file of the build or a recipe; all that are quantized, if not given.
    """
    if plot is not None and plot.suffix != ".svg":
        raise NotAnSvgError(plot)
    with_numerics = numerics or plot is not None
    explained = pipeline.explain(build, artifact=artifact, numerics=with_numerics)
    drawn = _draw(explained.numerics, plot) if plot is not None else ()
    from edgeq.stages.explain import terminal as shown  # noqa: PLC0415  # --json does without rich

    view = shown.numerics if with_numerics else shown.all_nodes if nodes else shown.coverage
    terminal.result({**to_data(explained), "files": [str(path) for path in drawn]}, lambda: view(explained))
    if drawn and not terminal.as_json:
        terminal.out.write("\n" + "\n".join(f"written to {path}" for path in drawn) + "\n")


def _draw(numerics: Sequence[Numerics], plot: Path) -> tuple[Path, ...]:
    require("report", needed_for="--plot")
    from edgeq.stages.explain.plot import render  # noqa: PLC0415  # only --plot needs jinja2

    files = []
    for one in numerics:
        files.append(plot if len(numerics) == 1 else plot.with_stem(f"{plot.stem}.{one.recipe}"))
        write_text(files[-1], render(one))
    return tuple(files)
