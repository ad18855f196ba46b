"""``edgeq completion``: the script that teaches a shell edgeq's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edgeq.cli.options import examples

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=examples('eval "$(edgeq completion bash)"', "edgeq completion zsh > ~/.zfunc/_edgeq"),
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    completion = get_completion_class(shell)
    if completion is None:  # pragma: no cover  # the choice above lists what click has
        raise click.UsageError(f"no completion for {shell}")
    click.echo(completion(ctx.find_root().command, {}, "edgeq", "_EDGEQ_COMPLETE").source())
