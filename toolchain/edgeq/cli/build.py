"""``edgeq build``: quantize and lower a project."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from edgeq import pipeline
from edgeq.cli import options
from edgeq.device.inventory import default_device
from edgeq.schema import to_data
from edgeq.stages.report import terminal as shown

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Group
    from rich.table import Table

    from edgeq.cli.terminal import Terminal
    from edgeq.pipeline import Build
    from edgeq.records import Format, Manifest


def default_jobs() -> int:
    """All cores that this process may use."""
    return len(os.sched_getaffinity(0))


@click.command(
    epilog=options.examples(
        "edgeq build examples/fashion_mnist --target rpi4",
        "edgeq build PROJECT --target rpi5 --recipe int8-static --format pte --out out/",
        "edgeq build PROJECT --target rpi4 --explain-recipe",
    )
)
@options.project_argument
@options.target_option
@options.recipe_option
@options.format_option
@options.out_option
@options.max_drop_option
@options.jobs_option
@click.option(
    "--explain-recipe", is_flag=True, help="Build nothing: say which recipe suits model, data and target, and why."
)
@click.option("--rebuild", is_flag=True, help="Build anew even if nothing has changed since the build that is there.")
@options.shows
def command(
    terminal: Terminal,
    *,
    project: Path,
    target: str | None,
    recipes: tuple[str, ...],
    formats: tuple[Format, ...],
    out: Path | None,
    max_drop_pp: float | None,
    jobs: int | None,
    explain_recipe: bool,
    rebuild: bool,
) -> None:
    """Quantize and lower PROJECT; score every artifact in its own runtime here.

    The fp32 twin is always built along: int8 is compared with it. Writes
    build/MODEL/TARGET with the artifacts and manifest.json. Where that was
    built before and nothing it depends on has changed, it stays as it is.
    """
    jobs = jobs or default_jobs()
    if explain_recipe:
        with terminal.progress() as progress:
            advice = pipeline.explain_recipe(
                project, target=target, recipes=recipes, max_drop_pp=max_drop_pp, jobs=jobs, progress=progress
            )
        terminal.result(to_data(advice), "\n".join(advice.reasons))
        return
    with terminal.progress() as progress:
        built = pipeline.build(
            project,
            target=target,
            recipes=recipes,
            formats=formats,
            out=out,
            max_drop_pp=max_drop_pp,
            jobs=jobs,
            rebuild=rebuild,
            progress=progress,
        )
    checks = built.checks()
    terminal.result(
        {
            "build": str(built.path),
            **to_data(built.manifest),
            "checks": to_data(checks),
            "reused": built.reused,
            "rebuilt_because": built.rebuilt_because,
            "unseen": built.unseen,
        },
        lambda: _tables(built.manifest),
    )
    if not terminal.as_json:
        for one in checks:
            if one.outcome == "cannot tell":
                terminal.out.write(f"\ncannot tell whether {one.artifact} keeps {one.limit}: {one.text}\n")
        for sentence in built.unseen[:1]:
            terminal.out.write(f"\nthe next build will begin anew: {sentence}\n")
        state = (
            f"nothing has changed since {built.manifest.created_at}: {built.path} holds that build (or --rebuild)"
            if built.reused
            else f"written to {built.path}"
        )
        terminal.out.write(f"\n{state}; next: {shlex.join(_next(built))}\n")
    pipeline.check(checks)


def _next(built: Build) -> list[str]:
    if built.target.bare_metal:
        return ["edgeq", "report", str(built.path)]
    return ["edgeq", "deploy", str(built.path), "--device", default_device(built.target)]


def _tables(manifest: Manifest) -> Group:
    from rich.console import Group  # noqa: PLC0415  # --json does without

    return Group(
        *(shown.search(one) for one in manifest.searches),
        *(shown.speed_search(one) for one in manifest.speed_searches),
        _table(manifest),
        *shown.estimates(manifest.artifacts),
    )


def _table(manifest: Manifest) -> Table:
    from rich.table import Table  # noqa: PLC0415  # --json does without

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("artifact", no_wrap=True)
    for column in ("size", "in int8", "delegated", "correct", "as fp32", "SQNR"):
        table.add_column(column, justify="right", no_wrap=True)
    for artifact in manifest.artifacts:
        host = artifact.host
        table.add_row(
            artifact.name,
            f"{artifact.size_bytes / 1e6:.2f} MB",
            f"{artifact.int8_mac_share:.1%}",
            f"{artifact.delegated_mac_share:.1%}",
            "-" if host.correct is None or not host.labelled else f"{host.correct / host.labelled:.1%}",
            "-" if host.agree is None else f"{host.agree / host.total:.1%}",
            ("identical" if host.identical else "-") if host.sqnr_db is None else f"{host.sqnr_db:.1f} dB",
        )
    host = manifest.artifacts[0].host
    where = "each in its own runtime, here" if manifest.measurable else "of the same graph in XNNPACK, here"
    table.caption = f"correct: of {host.labelled:,} labelled samples; as fp32: of {host.total:,}; {where}"
    return table
