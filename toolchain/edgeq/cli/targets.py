"""``edgeq targets``: the boards edgeq knows facts of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli.options import examples, shows
from edgeq.schema import to_data
from edgeq.target import Target, known_targets, load_target

if TYPE_CHECKING:
    from rich.table import Table

    from edgeq.cli.terminal import Terminal


@click.command(epilog=examples("edgeq targets", "edgeq targets --json", "edgeq targets myboard.toml"))
@click.argument("names", nargs=-1)
@shows
def command(terminal: Terminal, names: tuple[str, ...]) -> None:
    """List the boards that edgeq knows facts of, or check NAMES (also paths of your own TOML files)."""
    targets = [load_target(name) for name in names or known_targets()]
    terminal.result([to_data(target) for target in targets], lambda: _table(targets))


def _int8(target: Target) -> str:
    """What multiplies int8 there faster than the core does one product after the other."""
    if target.npu:
        return target.npu.accelerator
    if target.cmsis_nn:
        return "CMSIS-NN"
    return "yes" if {"asimddp", "avx512_vnni", "avx_vnni"} & set(target.features) else "no"


def _table(targets: list[Target]) -> Table:
    from rich.table import Table  # noqa: PLC0415  # --json does without

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("target", "core", "cores", "RAM", "dot product", "emulated as", "description"):
        table.add_column(column, justify="right" if column in {"cores", "RAM"} else "left")
    for target in targets:
        table.add_row(
            target.name,
            target.cpu,
            str(target.cores),
            "-" if target.ram_bytes is None else f"{target.ram_bytes / 2**30:g} GiB",
            _int8(target),
            target.emulation.cpu if target.emulation else "-",
            target.description,
        )
    return table
