"""``edgeq export``: a folder that an app project takes in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.mobile import PLATFORMS
from edgeq.schema import to_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.cli.terminal import Terminal
    from edgeq.mobile import PlatformName
    from edgeq.records import Export


@click.command(
    epilog=options.examples(
        "edgeq export build/fashion-mnist/rpi4 --platform android",
        "edgeq export build/fashion-mnist/rpi4 --platform android --package org.example.wardrobe --out app/model",
        "edgeq export build/fashion-mnist/rpi4 --platform android --artifact int8-static",
    )
)
@options.build_argument
@click.option("--platform", required=True, type=click.Choice(sorted(PLATFORMS)), help="What the app runs on.")
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    shell_complete=options.complete_artifacts,
    help="A file of the build or a recipe; may be repeated. If not given: what the report recommends, or else the "
    "int8 .pte.",
)
@click.option("--package", help="What the app imports: a Kotlin package, such as com.example.model.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder; export/MODEL/PLATFORM in this one, if not given."
)
@options.shows
def command(
    terminal: Terminal,
    build: Path,
    *,
    platform: PlatformName,
    artifacts: tuple[str, ...],
    package: str | None,
    out: Path | None,
) -> None:
    """Write a folder with artifacts of a BUILD, typed code around them and tests, for an app project to take in."""
    with terminal.progress() as progress:
        what = pipeline.read_build(build)
        done = pipeline.export(what, platform, out, artifacts=artifacts, package=package, progress=progress)
    terminal.result(
        {**to_data(done.record), "folder": str(done.folder)}, lambda: "\n".join(_told(done.record, done.folder))
    )


def _told(record: Export, folder: Path) -> Iterator[str]:
    for one in record.files:
        yield f"{one.file} ({one.size_bytes:,} bytes): {one.dependency.name} {one.dependency.version}"
        if one.dependency.note:
            yield f"  {one.dependency.note}"
    yield f"chosen: {record.chosen_because}"
    for said in record.left_out:
        yield f"left out: {said}"
    yield f"written to {folder}; begin with {folder / 'README.md'}"
