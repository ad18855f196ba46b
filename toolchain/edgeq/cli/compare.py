"""``edgeq compare``: which of two builds is faster on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.device.keyring import signing_key
from edgeq.schema import to_data

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgeq.cli.terminal import Terminal
    from edgeq.stages.compare import Compared


@click.command(
    epilog=options.examples(
        "edgeq compare build/before/rpi4 build/after/rpi4 --device ssh://pi@raspberrypi.local",
        "edgeq compare build/before/rpi4 build/after/rpi4 --device local --repeats 1000 --json",
        "edgeq compare build/net/rpi4 --device pi --artifact net.int8-static.onnx --artifact net.int8-static.pte",
    )
)
@click.argument("builds", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUILD...")
@click.option("--device", help=f"{options.DEVICE_HELP} The emulated board of the first build's target, if not given.")
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    help="Only this artifact of the first build; may be repeated. Of one BUILD alone: the first against the others.",
)
@options.repeats_option
@options.threads_option
@click.option(
    "--same-within",
    "same_within_percent",
    type=click.FloatRange(min=0, min_open=True, max=50),
    default=1.0,
    show_default=True,
    metavar="PERCENT",
    help="Two are the same if the whole interval of their ratio is that near to 1.",
)
@options.sign_option
@options.force_option
@options.shows
def command(
    terminal: Terminal,
    *,
    builds: tuple[Path, ...],
    device: str | None,
    artifacts: tuple[str, ...],
    repeats: int | None,
    threads: tuple[int, ...],
    same_within_percent: float,
    sign: str | None,
    force: bool,
) -> None:
    """Let the artifacts of BUILDS take turns on one device, and say which are faster than those of the first.

    Artifacts of one recipe and format are held against each other, round by round in random order, in one session,
    with the threads that suit the first build's. The verdict is by the 95 % interval of the ratio of medians: faster,
    slower, the same, or cannot tell; beside it stands what so noisy a session would have shown. What is active on the
    device stays active. Each comparison, every sample in it, is a line of comparisons.jsonl in the later BUILD. On an
    emulated board retired instructions are compared, which is a cost and no time.
    """
    settings = pipeline.BenchOptions(artifacts=artifacts, repeats=repeats, threads=threads, force=force)
    with terminal.progress() as progress:
        compared = pipeline.compare(
            builds,
            device=device,
            settings=settings,
            same_within=same_within_percent / 100,
            sign=signing_key(sign) if sign else None,
            progress=progress,
        )
    terminal.result(
        {"rows": [to_data(row) for row in compared.comparisons], "left_out": list(compared.left_out)},
        lambda: _shown(compared),
    )


def _shown(compared: Compared) -> RenderableType:
    from edgeq.stages.compare import terminal as shown  # noqa: PLC0415  # --json does without

    return shown.renderable(compared)
