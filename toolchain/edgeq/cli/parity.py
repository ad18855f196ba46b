"""``edgeq parity``: hold a build's outputs on devices against the build machine's, and against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.cli.fleet import watching
from edgeq.cli.terminal import explained
from edgeq.device.inventory import devices_of
from edgeq.device.keyring import signing_key
from edgeq.errors import DeviceError, ParityError
from edgeq.schema import to_data
from edgeq.stages.parity import SAMPLES
from edgeq.stages.report import parity as shown

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from edgeq.cli.terminal import Terminal
    from edgeq.records import Parity


@click.command(
    epilog=options.examples(
        "edgeq parity build/fashion-mnist/rpi4 --device board:rpi3,board:rpi4,board:rpi5,local",
        "edgeq parity build/fashion-mnist/rpi4 --device pi --artifact int8-static --samples 100 --least-sqnr 60",
        "edgeq parity build/fashion-mnist/rpi4 --device pi,board --json",
    )
)
@options.build_argument
@click.option("--device", required=True, help=f"One or several, with commas: {options.DEVICE_HELP}")
@options.artifact_option
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=SAMPLES,
    show_default=True,
    help="Evaluation samples to run beside the golden input.",
)
@click.option(
    "--least-sqnr",
    "least_sqnr_db",
    type=float,
    metavar="DB",
    help="How near outputs must be, instead of what the manifest says (10 dB).",
)
@options.sign_option
@options.shows
def command(
    terminal: Terminal,
    *,
    build: Path,
    device: str,
    artifacts: tuple[str, ...],
    samples: int,
    least_sqnr_db: float | None,
    sign: str | None,
) -> None:
    """Tell whether BUILD computes on each device what it computes on the build machine, and what the others compute.

    Every artifact runs its golden input and some samples of the evaluation set. What is not on a device yet is
    brought there, and what is active there stays active. Where outputs diverge, the first layer that does is named in
    the words of your model. Exit 5 if any do; the record is BUILD/parity.json, and the report shows it.

    A device that fails does not stop the others: exit 4, or what all failures have in common.
    """
    devices = devices_of(device)
    key = signing_key(sign) if sign else None
    what = pipeline.read_build(build)
    with watching(terminal) as watch:
        done = pipeline.parity(
            what, devices, artifacts=artifacts, samples=samples, least_sqnr_db=least_sqnr_db, sign=key, watch=watch
        )
    failures = {name: explained(error) for name, error in done.errors.items()}
    terminal.result(to_data(done.parity), lambda: _shown(done.parity))
    diverging = shown.diverging(done.parity)
    if diverging:
        raise ParityError(diverging)
    codes = {failure.exit_code for failure in failures.values()}
    if any(row.verdict == "failed" for row in done.parity.rows):
        codes.add(DeviceError.exit_code)
    if codes:
        raise click.exceptions.Exit(codes.pop() if len(codes) == 1 else DeviceError.exit_code)


def _shown(found: Parity) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415  # --json does without

    from edgeq.stages.report.terminal import headed  # noqa: PLC0415  # as above

    return Group(*(headed(table) for table in shown.tables_of(found)))
