"""``edgeq runner``: the native runner and what it is built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq import packages, runner
from edgeq.cli.options import examples, shows
from edgeq.triple import ENGINES, KINDS, TRIPLES

if TYPE_CHECKING:
    from edgeq.cli.terminal import Terminal
    from edgeq.triple import Engine, Triple


@click.group(epilog=examples("edgeq runner build", "edgeq runner build --triple x86_64-linux-gnu --engine executorch"))
def command() -> None:
    """Build the native runner, and renew the pins of what it is built from."""


@command.command(epilog=examples("edgeq runner build", "edgeq runner build --triple aarch64-linux-gnu --json"))
@click.option("--triple", "triples", multiple=True, type=click.Choice(TRIPLES), help="All, if not given.")
@click.option("--engine", "engines", multiple=True, type=click.Choice(ENGINES), help="All, if not given.")
@shows
def build(terminal: Terminal, triples: tuple[Triple, ...], engines: tuple[Engine, ...]) -> None:
    """Build what is missing or has changed; `edgeq deploy` does so by itself."""
    with terminal.progress() as progress:
        bundles = [
            runner.bundle(engine, triple, progress=progress)
            for triple in triples or TRIPLES
            for engine in engines or KINDS[triple].engines
        ]
    terminal.result(
        [
            {
                "runner": f"{one.triple}/{one.executable}",
                "sha256": one.sha256,
                "files": {name: str(path) for name, path in one.files.items()},
            }
            for one in bundles
        ],
        "\n".join(f"{one.triple}/{one.executable}  {one.files[one.executable]}" for one in bundles),
    )


@command.command(epilog=examples("edgeq runner relock board-aarch64"))
@click.argument("lock")
@shows
def relock(terminal: Terminal, lock: str) -> None:
    """Renew LOCK: resolve its packages anew through apt's signed index and rewrite the file."""
    with terminal.progress() as progress:
        packages.relock(lock, progress=progress)
    terminal.result({"relocked": lock}, f"{lock} now pins what the suite holds today; look at the diff and commit it")
