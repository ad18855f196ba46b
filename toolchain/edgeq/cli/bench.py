"""``edgeq bench``: measure a deployed build on its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.schema import to_data
from edgeq.stages.report import terminal as shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from edgeq.cli.terminal import Terminal
    from edgeq.records import Report, ReportRow


@click.command(
    epilog=options.examples(
        "edgeq bench build/fashion-mnist/rpi4 --device ssh://pi@raspberrypi.local",
        "edgeq bench build/fashion-mnist/rpi4 --device board --samples 1000",
        "edgeq bench build/fashion-mnist/rpi4 --device ssh://pi@raspberrypi.local --threads 1 --threads 2",
        "edgeq bench build/fashion-mnist/rpi4 --device pi --profile",
    )
)
@options.build_argument
@click.option("--device", required=True, help=options.DEVICE_HELP)
@options.artifact_option
@options.samples_option
@options.repeats_option
@options.threads_option
@click.option("--profile", is_flag=True, help="Also measure each operator, in runs of their own.")
@options.shows
def command(
    terminal: Terminal,
    *,
    build: Path,
    device: str,
    artifacts: tuple[str, ...],
    samples: int | None,
    repeats: int | None,
    threads: tuple[int, ...],
    profile: bool,
) -> None:
    """Measure BUILD on the device it was deployed to: latency, memory, accuracy. Appends rows to its measurements.

    All artifacts are timed in turn, each with the number of threads that is
    fastest for it, so that int8 may be held against fp32. On an emulated
    board no latency is taken: its time says nothing about a board. Retired
    instructions are counted there instead. With --profile the rows also hold
    what each operator took: time, or on an emulated board instructions. Exit 5 if a limit of the project is missed on
    the device.
    """
    what = pipeline.read_build(build)
    settings = pipeline.BenchOptions(
        artifacts=artifacts, samples=samples, repeats=repeats, threads=threads, profile=profile
    )
    with terminal.progress() as progress, pipeline.connected(what, device, progress=progress) as transport:
        rows = pipeline.bench(what, transport, settings, device=device, progress=progress)
    summary = pipeline.summary([build])
    checks = [one for one in summary.checks if one.device == device]
    measured = [one for one in summary.rows if one.device == device and one.artifact in {row.artifact for row in rows}]
    recommended = [one for each in summary.builds for one in each.decision.recommendations if one.device == device]
    terminal.result(
        {
            "measurements": [to_data(row) for row in rows],
            "rows": [to_data(one) for one in measured],
            "recommendations": [to_data(one) for one in recommended],
            "checks": [to_data(one) for one in checks],
        },
        lambda: _shown(summary, measured),
    )
    pipeline.check(checks)


def _shown(report: Report, rows: Sequence[ReportRow]) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415  # --json does without

    return Group(*shown.operators(rows), shown.renderable(report))
