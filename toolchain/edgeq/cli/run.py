"""``edgeq run``: build, deploy, bench and report in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.cli.build import default_jobs
from edgeq.device.keyring import signing_key
from edgeq.schema import to_data
from edgeq.stages.report import terminal as shown

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.cli.terminal import Terminal
    from edgeq.records import Format


@click.command(
    epilog=options.examples(
        "edgeq run examples/efficientnet_lite0 --target rpi4",
        "edgeq run PROJECT --target rpi5 --device ssh://pi@raspberrypi.local",
        "edgeq run examples/fashion_mnist --target rpi4 --json",
    )
)
@options.project_argument
@options.target_option
@click.option(
    "--device",
    shell_complete=options.complete_devices,
    help=f"{options.DEVICE_HELP} If not given: `board`, or `local` for a target that has none.",
)
@options.recipe_option
@options.format_option
@options.out_option
@options.max_drop_option
@options.sign_option
@options.samples_option
@options.repeats_option
@options.threads_option
@options.force_option
@options.jobs_option
@options.shows
def command(
    terminal: Terminal,
    *,
    project: Path,
    target: str | None,
    device: str | None,
    recipes: tuple[str, ...],
    formats: tuple[Format, ...],
    out: Path | None,
    max_drop_pp: float | None,
    sign: str | None,
    samples: int | None,
    repeats: int | None,
    threads: tuple[int, ...],
    force: bool,
    jobs: int | None,
) -> None:
    """Build PROJECT, deploy it, measure it on the device, and write the report.

    A microcontroller cannot be deployed to: for one the run ends with the
    report of the build.
    """
    key = signing_key(sign) if sign else None
    with terminal.progress() as progress:
        written = pipeline.run(
            project,
            target=target,
            recipes=recipes,
            formats=formats,
            out=out,
            max_drop_pp=max_drop_pp,
            build_jobs=jobs or default_jobs(),
            device=device,
            sign=key,
            settings=pipeline.BenchOptions(samples=samples, repeats=repeats, threads=threads, force=force),
            progress=progress,
        )
    terminal.result(
        {
            **to_data(written.report),
            "files": [str(path) for path in written.files],
            "left_out": written.left_out,
            "history": to_data(written.remembered),
            "not_measured": written.not_measured,
        },
        lambda: shown.renderable(written.report),
    )
    options.warn_of_history(terminal, written.remembered)
    if written.not_measured and not terminal.as_json:
        terminal.out.write(f"\n{written.not_measured}\n")
    options.tell_files(terminal, written)
    pipeline.check(written.report.checks)
