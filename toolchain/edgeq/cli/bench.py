"""``edgeq bench``: measure a deployed build on its device."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.errors import PaceError
from edgeq.runner import Pace
from edgeq.schema import to_data
from edgeq.stages.report import paces
from edgeq.stages.report import terminal as shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from edgeq.cli.terminal import Terminal
    from edgeq.records import Manifest, Measurement, Report, ReportRow


_PAUSE_MS = 100
_HIGHEST_CPU = 1023


class _CpuList(click.ParamType[tuple[int, ...]]):
    """CPUs as the kernel lists them: 0,4-7."""

    name = "LIST"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers of the CPUs, ascending."""
        if isinstance(value, tuple):
            return value
        cpus: set[int] = set()
        for part in value.split(","):
            found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
            first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
            if first > last or last > _HIGHEST_CPU:
                self.fail(f"{value!r} is no list of CPUs such as 0,4-7", param, ctx)
            cpus.update(range(first, last + 1))
        return tuple(sorted(cpus))


@click.command(
    epilog=options.examples(
        "edgeq bench build/fashion-mnist/rpi4 --device ssh://pi@raspberrypi.local",
        "edgeq bench build/fashion-mnist/rpi4 --device board --samples 1000",
        "edgeq bench build/fashion-mnist/rpi4 --device ssh://pi@raspberrypi.local --threads 1 --threads 2",
        "edgeq bench build/fashion-mnist/rpi4 --device pi --profile",
        "edgeq bench build/fashion-mnist/rpi4 --device pi --rate 20 --arrivals even",
        "edgeq bench build/fashion-mnist/rpi4 --device pi --single-shot --interval 1000",
        "edgeq bench build/fashion-mnist/rpi4 --device pi --cpus 4-7 --leak-check",
    )
)
@options.build_argument
@options.device_option
@options.artifact_option
@options.samples_option
@options.repeats_option
@options.threads_option
@click.option(
    "--cpus",
    type=_CpuList(),
    default=(),
    help="Run on these alone, such as 0,4-7. If not given: on the fastest cores of a device that has several kinds.",
)
@click.option("--single-shot", is_flag=True, help="Let the device rest before each inference.")
@click.option(
    "--interval",
    "pause_ms",
    type=click.IntRange(min=1, max=60_000),
    metavar="MS",
    help=f"How long it rests, in milliseconds ({_PAUSE_MS} if not given); with --single-shot.",
)
@click.option(
    "--rate",
    "rate_hz",
    type=click.FloatRange(min=0.01, max=100_000),
    metavar="R",
    help="Samples arrive so many times a second, whether or not the one before is done with; a latency counts "
    "from when its sample arrived.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "even"]),
    help="When they arrive, with --rate: at random (poisson, if not given), or evenly, as a camera's do.",
)
@click.option("--leak-check", is_flag=True, help="Also look whether memory grows over a thousand inferences.")
@click.option("--profile", is_flag=True, help="Also measure each operator, in runs of their own.")
@options.force_option
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
    cpus: tuple[int, ...],
    single_shot: bool,
    pause_ms: int | None,
    rate_hz: float | None,
    arrivals: Literal["poisson", "even"] | None,
    leak_check: bool,
    profile: bool,
    force: bool,
) -> None:
    """Measure BUILD on the device it was deployed to: latency, memory, accuracy. Appends rows to its measurements.

    All artifacts are timed in turn, each with the number of threads that is
    fastest for it, so that int8 may be held against fp32. On an emulated
    board no latency is taken: its time says nothing about a board. Retired
    instructions are counted there instead. With --profile the rows also hold
    what each operator took: time, or on an emulated board instructions. --single-shot and --rate measure latencies at
    another pace, beside the ones that are compared; no accuracy then. Exit 4
    if the device is not fit to be measured (too busy, hot, slowed down), 5 if
    a limit of the project is missed on it.
    """
    pace = _pace(single_shot=single_shot, pause_ms=pause_ms, rate_hz=rate_hz, arrivals=arrivals)
    what = pipeline.read_build(build)
    settings = pipeline.BenchOptions(
        artifacts=artifacts,
        samples=samples,
        repeats=repeats,
        threads=threads,
        profile=profile,
        leak_check=leak_check,
        pace=pace,
        cpus=cpus,
        force=force,
    )
    with terminal.progress() as progress, pipeline.connected(what, device, progress=progress) as transport:
        rows = pipeline.bench(what, transport, settings, device=device, progress=progress)
    remembered = pipeline.remember(what)
    summary = pipeline.summary([build])
    checks = [one for one in summary.checks if one.device == device]
    names = {row.artifact for row in rows if row.mode == "back-to-back"}
    measured = [one for one in summary.rows if one.device == device and one.artifact in names]
    recommended = [one for each in summary.builds for one in each.decision.recommendations if one.device == device]
    terminal.result(
        {
            "measurements": [to_data(row) for row in rows],
            "rows": [to_data(one) for one in measured],
            "recommendations": [to_data(one) for one in recommended],
            "checks": [to_data(one) for one in checks],
            "history": to_data(remembered),
        },
        lambda: _shown(summary, what.manifest, rows, measured),
    )
    options.warn_of_history(terminal, remembered)
    pipeline.check(checks)


def _pace(
    *, single_shot: bool, pause_ms: int | None, rate_hz: float | None, arrivals: Literal["poisson", "even"] | None
) -> Pace:
    """What the options say; PaceError if they do not go together."""
    if single_shot and rate_hz is not None:
        raise PaceError("--single-shot and --rate are two paces", hint="measure them one after the other")
    if pause_ms is not None and not single_shot:
        raise PaceError("--interval is the rest of a --single-shot", hint="say --single-shot as well")
    if arrivals is not None and rate_hz is None:
        raise PaceError("--arrivals says when samples of a --rate come", hint="say --rate R as well")
    if single_shot:
        return Pace(pause_ms=pause_ms or _PAUSE_MS)
    return Pace(rate_hz=rate_hz, arrivals=arrivals or "poisson")


def _shown(
    report: Report, manifest: Manifest, rows: Sequence[Measurement], measured: Sequence[ReportRow]
) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415  # --json does without

    if rows and rows[0].mode != "back-to-back":
        return Group(*(shown.headed(table) for table in paces.tables_of(paces.rows_of(manifest, rows))))
    return Group(*shown.operators(measured), shown.renderable(report))
