"""``edgeq export``: a folder that an app project takes in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.mobile import PLATFORMS
from edgeq.mobile.conversions import nearness
from edgeq.records import DelegateName
from edgeq.schema import to_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.cli.terminal import Terminal
    from edgeq.mobile import PlatformName
    from edgeq.records import Export, ExportedFile


@click.command(
    epilog=options.examples(
        "edgeq export build/fashion-mnist/rpi4 --platform android",
        "edgeq export build/fashion-mnist/rpi4 --platform android --package org.example.wardrobe --out app/model",
        "edgeq export build/fashion-mnist/rpi4 --platform ios --artifact int8-static",
        "edgeq export build/fashion-mnist/rpi4 --platform ios --package Wardrobe --out app/Wardrobe",
        "edgeq export build/fashion-mnist/rpi4 --platform android --artifact int8-static --delegate vulkan",
        "edgeq export build/fashion-mnist/rpi4 --platform android --ort",
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
@click.option(
    "--ort",
    is_flag=True,
    help="ONNX Runtime's own format instead of ONNX, and the list of operators that a small build of it needs.",
)
@click.option(
    "--delegate",
    "delegates",
    multiple=True,
    type=click.Choice(get_args(DelegateName)),
    help="A further .pte for a GPU or a neural processor, of the artifacts that are named or of fp32; may be repeated. "
    "Android: vulkan, vulkan-fp16. iOS: coreml (in float16), coreml-fp32.",
)
@click.option("--package", help="What the app imports: a Kotlin package, such as com.example.model, or a Swift module.")
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
    ort: bool,
    delegates: tuple[DelegateName, ...],
    package: str | None,
    out: Path | None,
) -> None:
    """Write a folder with artifacts of a BUILD, typed code around them and tests, for an app project to take in."""
    with terminal.progress() as progress:
        what = pipeline.read_build(build)
        done = pipeline.export(
            what,
            platform,
            out,
            artifacts=artifacts,
            package=package,
            ort=ort,
            delegates=delegates,
            progress=progress,
        )
    terminal.result(
        {**to_data(done.record), "folder": str(done.folder)}, lambda: "\n".join(_told(done.record, done.folder))
    )


def _told(record: Export, folder: Path) -> Iterator[str]:
    for one in record.files:
        yield f"{one.file} ({one.size_bytes:,} bytes): {one.dependency.name} {one.dependency.version}"
        if one.dependency.note:
            yield f"  {one.dependency.note}"
        yield from _told_of_conversions(one)
    yield f"chosen: {record.chosen_because}"
    for said in record.left_out:
        yield f"left out: {said}"
    yield f"written to {folder}; begin with {folder / 'README.md'}"


def _told_of_conversions(one: ExportedFile) -> Iterator[str]:
    if one.ort is not None:
        yield f"  {len(one.ort.operators)} operators; {nearness(one.ort)} {one.artifact} on this machine"
        yield from (f"  not checked: {said}" for said in one.ort.unchecked)
    if one.delegated is not None:
        made = one.delegated
        also = f", {made.cpu_mac_share:.1%} in XNNPACK" if made.cpu_partitions else ""
        yield f"  {made.mac_share:.1%} of the multiply-accumulates in {made.backend}{also}"
        yield from (f"  {row.mac_share:.1%} {row.op}: {row.reason}" for row in made.undelegated)
        yield from (f"  not checked: {said}" for said in made.unchecked)
