"""``edgeq check``: hold a build against its project's limits and a baseline."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.errors import CheckFailedError, ConfigError, UnknownNameError
from edgeq.records import Tolerances
from edgeq.schema import to_data
from edgeq.stages import check as stage

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgeq.cli.terminal import Terminal
    from edgeq.records import CheckResult
    from edgeq.stages.check import CheckFormat

_TOLERANCES = tuple(field.name for field in fields(Tolerances))


@click.command(
    epilog=options.examples(
        "edgeq check build/fashion-mnist/rpi4                              the limits of edgeq.toml",
        "edgeq check build/fashion-mnist/rpi4 --against ../main/build/fashion-mnist/rpi4",
        "edgeq check build/fashion-mnist/rpi4 --save baseline.json",
        "edgeq check build/fashion-mnist/rpi4 --against baseline.json --format md --format junit --out ci/",
        "edgeq check build/fashion-mnist/rpi4 --against history --device board",
        "edgeq check build/fashion-mnist/rpi4 --against history:4f1c --tolerance instructions_percent=1",
    )
)
@options.build_argument
@click.option(
    "--against",
    default="",
    metavar="BASELINE",
    help="Another BUILD, a file that --save wrote, `history` (the session before on each device), or history:SESSION.",
)
@click.option("--device", "devices", multiple=True, help="Only what was measured on this device; may be repeated.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Save what was measured as a baseline.")
@click.option(
    "--tolerance",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help=f"Instead of what [check] of edgeq.toml says; may be repeated. NAME: {', '.join(_TOLERANCES)}.",
)
@click.option("--strict", is_flag=True, help="Fail on what cannot be told as well.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["md", "junit", "json"]),
    help="Write check.md, check.xml or check.json; may be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), help="A folder for those files; BUILD, if not given.")
@options.shows
def command(
    terminal: Terminal,
    *,
    build: Path,
    against: str,
    devices: tuple[str, ...],
    save: Path | None,
    given: tuple[str, ...],
    strict: bool,
    formats: tuple[CheckFormat, ...],
    out: Path | None,
) -> None:
    """Hold the newest measurements of BUILD against the limits of its project and against a baseline.

    Nothing is measured. Exit 5 if a limit is missed or something is worse
    than in the baseline. What cannot be told is shown with the reason, and
    passes unless --strict.
    """
    asked = stage.Request(against=against, devices=devices, tolerances=_tolerances(given), strict=strict, save=save)
    result = pipeline.checked(build, asked)
    files = stage.write(result, formats or (("md", "junit", "json") if out else ()), out or build)
    written = [*files, *([save] if save else [])]
    terminal.result({**to_data(result), "files": [str(path) for path in written]}, lambda: _shown(result))
    if not terminal.as_json:
        terminal.out.write("".join(f"written to {path}\n" for path in written))
    failed = stage.failures(result.limits, result.changes, strict=strict)
    if failed:
        raise CheckFailedError(failed, shown=not terminal.as_json)


def _tolerances(given: tuple[str, ...]) -> dict[str, float]:
    """What the command line says of tolerances, by name."""
    found: dict[str, float] = {}
    for one in given:
        name, _, value = one.partition("=")
        if name not in _TOLERANCES:
            raise UnknownNameError("tolerance", name, _TOLERANCES, where="--tolerance")
        try:
            found[name] = float(value)
        except ValueError:
            raise ConfigError(f"--tolerance {one}: {value!r} is no number", hint=f"write: {name}=1.0") from None
    return found


def _shown(result: CheckResult) -> RenderableType:
    from edgeq.stages.check import terminal as shown  # noqa: PLC0415  # --json does without

    return shown.renderable(result)
