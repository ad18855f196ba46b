"""``edgeq deploy``: push a build to a device."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.cli.fleet import canary_option, on_devices
from edgeq.device.inventory import BOARD
from edgeq.device.keyring import signing_key
from edgeq.schema import to_data
from edgeq.stages.report.figures import printable

if TYPE_CHECKING:
    from rich.table import Table

    from edgeq.cli.terminal import Terminal
    from edgeq.pipeline import Build
    from edgeq.progress import Progress
    from edgeq.stages.deploy import DeployResult
    from edgeq.stages.store import Held


@click.command(
    epilog=options.examples(
        "edgeq deploy build/fashion-mnist/rpi4 --device ssh://pi@raspberrypi.local",
        "edgeq deploy build/fashion-mnist/rpi4 --device board --json",
        "edgeq deploy build/fashion-mnist/rpi4 --device kitchen,hall,attic --canary 1",
        "edgeq deploy build/fashion-mnist/rpi4 --device pi --sign ci",
        "edgeq deploy --list --device ssh://pi@raspberrypi.local",
    )
)
@click.argument("build", required=False, type=click.Path(path_type=Path))
@options.device_option
@click.option("--list", "listing", is_flag=True, help="Say what the device holds instead; takes no BUILD.")
@click.option("--verify", is_flag=True, help="Hash and try every file there again, even if none was touched.")
@canary_option
@options.sign_option
@click.option("--allow-older", is_flag=True, help="Go back to an older build on a device that takes signed ones only.")
@options.board_target_option
@options.shows
def command(
    terminal: Terminal,
    *,
    build: Path | None,
    device: str,
    listing: bool,
    verify: bool,
    canary: int | None,
    sign: str | None,
    allow_older: bool,
    target: str | None,
) -> None:
    """Push what is missing of BUILD, verify and try it on the device, activate it in one step.

    Every file is hashed there, and every artifact runs on an input whose output is known; until both have passed,
    the deployment before stays active. A push that was cut goes on where it stopped.

    Several devices, `--device a,b` or a group of devices.toml, are worked at once; one that fails does not stop the
    others. An emulated board that this starts goes on running for `edgeq bench`, until `edgeq board stop`.
    A device that was told to trust a key (`edgeq keys trust`) takes nothing else than what it signed.
    """
    if (build is None) != listing:
        raise click.UsageError("name a BUILD, or say --list")
    if build is None:
        _list(terminal, device, target)
        return
    key = signing_key(sign) if sign else None
    what = pipeline.read_build(build)

    def work(one: str, progress: Progress) -> DeployResult:
        with pipeline.connected(what, one, lasting=True, progress=progress) as transport:
            return pipeline.deploy(
                what, transport, device=one, sign=key, allow_older=allow_older, verify=verify, progress=progress
            )

    on_devices(
        terminal, device, work, canary=canary, data=_data, text=_row, alone=lambda one, done: _told(what, one, done)
    )


def _told(what: Build, device: str, done: DeployResult) -> str:
    model = done.deployment.model
    following = shlex.join(["edgeq", "bench", str(what.path), "--device", device])
    text = f"{model} is active on {device} ({_sent(done)}); next: {following}"
    signed = done.deployment.signed
    if signed:
        checked = "which the device trusts" if signed.verified else "and the device trusts no key yet: edgeq keys trust"
        text += f"\nsigned by {signed.key} ({signed.fingerprint}), {checked}"
    text += "".join(f"\nwarning: {one}" for one in done.deployment.warnings)
    if device == BOARD:
        text += f"\nthe board runs on; stop it with: edgeq board stop {shlex.quote(what.target.name)}"
    return text


def _data(done: DeployResult) -> dict[str, object]:
    sent = {"transferred_bytes": done.transferred_bytes, "unchanged": done.unchanged}
    return {**sent, "deployment": to_data(done.deployment)}


def _sent(done: DeployResult) -> str:
    if done.unchanged:
        return "nothing has changed there"
    return f"{done.transferred_bytes / 1e6:.1f} MB sent" if done.transferred_bytes else "nothing had to be sent"


def _row(done: DeployResult) -> str:
    return "\n".join((_sent(done), *(f"warning: {one}" for one in done.deployment.warnings)))


def _list(terminal: Terminal, device: str, target: str | None) -> None:
    def work(one: str, progress: Progress) -> tuple[Held, ...]:
        return pipeline.held(one, target=target, progress=progress)

    def data(found: tuple[Held, ...]) -> dict[str, object]:
        return {"deployments": [to_data(one) for one in found]}

    on_devices(terminal, device, work, data=data, text=_active, alone=_table)


def _active(found: tuple[Held, ...]) -> str:
    return ", ".join(f"{one.name} {one.id}" for one in found if one.active) or "no deployment"


def _table(device: str, found: tuple[Held, ...]) -> Table | str:
    if not found:
        return f"{device} holds no deployment"
    from rich.table import Table  # noqa: PLC0415  # --json does without

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "deployment", "", "made", "files", "size"):
        table.add_column(column)
    for one in found:
        state = "active" if one.active else ""
        table.add_row(
            printable(one.name) or "(none)",
            printable(one.id),
            state,
            one.made_at,
            str(one.files),
            f"{one.size_bytes / 1e6:.1f} MB",
        )
    return table
